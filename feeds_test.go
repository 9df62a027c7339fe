package replkv

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
)

// TestFeeds: the log after a snapshot stays until the follower has caught up,
// and moves along with it.
func TestFeeds(t *testing.T) {
	l, err := raftlog.Open(t.TempDir(), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := raftlog.NewGuard(l, raftlog.GuardOptions{TrailingBytes: -1})
	defer g.Close()
	for i := range uint64(100) {
		if err := g.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	first := func(want uint64) {
		t.Helper()
		if err := g.DeleteRange(1, 90); err != nil { // as raft compacts
			t.Fatal(err)
		}
		if got, err := g.FirstIndex(); err != nil || got != want {
			t.Fatalf("the log begins at %d, %v; want %d", got, err, want)
		}
	}
	f := feeds{commit: func() uint64 { return 80 }}
	pin, held := g.Pin(21)
	if !held {
		t.Fatal("not held")
	}
	f.begin("b", pin)
	f.matched("c", 99) // another follower
	first(21)
	f.matched("b", 40)
	first(40)
	f.matched("b", 80)
	if pin.Held() || len(f.pins) != 0 {
		t.Error("held after the follower caught up")
	}
	first(91)
}

// TestFeedKeepsItsEntry: snapshots taken while a follower is fed leave the entry
// of the snapshot that it gets: raft sends its term with the first entry after.
func TestFeedKeepsItsEntry(t *testing.T) {
	db, err := Open(Config{Dir: t.TempDir(), TrailingLogBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	write := func() {
		for range 200 { // more than raft's TrailingLogs
			if _, err := db.Set(t.Context(), "k", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	m, feed, err := db.snaps.Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	write()
	if err := db.snaps.take(); err != nil {
		t.Fatal(err)
	}
	if first, err := db.guard.FirstIndex(); err != nil || first != m.Index {
		t.Errorf("the log begins at %d, %v; want %d", first, err, m.Index)
	}
}

// TestLogStore: a log store of the application's choice is opened in its own
// directory, used, and closed.
func TestLogStore(t *testing.T) {
	dir := t.TempDir()
	var opened string
	var log *raftlog.Log
	cfg := Config{Dir: dir, LogStore: func(dir string) (LogStore, error) {
		var err error
		opened = dir
		log, err = raftlog.Open(dir, raftlog.Options{})
		return log, err
	}}
	for round := range 2 {
		db, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if rev, err := db.Set(t.Context(), "k", nil); err != nil || rev != Revision(2+round) {
			t.Fatalf("revision %d, %v", rev, err)
		}
		if last, err := log.LastIndex(); err != nil || last < 3 {
			t.Errorf("its last index is %d, %v", last, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := log.LastIndex(); err == nil {
			t.Error("it was not closed")
		}
	}
	if opened != filepath.Join(dir, "log") {
		t.Errorf("opened in %s", opened)
	}
}
