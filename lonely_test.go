package replkv

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// openLonely opens one member of three of which the others do not exist.
func openLonely(t *testing.T, dir string, change func(*Config)) *DB {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	cfg := Config{Dir: dir, ID: "a", Addr: addr, Listener: l, InsecurePeers: true, RequestTimeout: 200 * time.Millisecond,
		InitialCluster: []Member{{ID: "a", Addr: addr}, {ID: "b", Addr: "127.0.0.1:1"}, {ID: "c", Addr: "127.0.0.1:2"}}}
	if change != nil {
		change(&cfg)
	}
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestShutdownWithoutQuorum: a write whose caller has left does not hold up
// Shutdown.
func TestShutdownWithoutQuorum(t *testing.T) {
	db := openLonely(t, t.TempDir(), nil)
	if _, err := db.Set(t.Context(), "k", nil); !errors.Is(err, ErrNoLeader) || OutcomeOf(err) != OutcomeNotDone {
		t.Errorf("Set: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- db.Shutdown(context.Background()) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Shutdown hangs")
	}
}

// TestLeftWritesHoldNoBudget: nor does it count against MaxInFlightBytes.
func TestLeftWritesHoldNoBudget(t *testing.T) {
	db := openLonely(t, t.TempDir(), func(c *Config) { c.MaxInFlightBytes = 4 << 20 })
	for range 6 {
		if _, err := db.Set(t.Context(), "k", make([]byte, 1<<20)); !errors.Is(err, ErrNoLeader) {
			t.Fatalf("Set: %v", err)
		}
	}
}

// TestCloseEndsWaits: Close ends a reader that waits for a revision to come.
func TestCloseEndsWaits(t *testing.T) {
	db := openSingle(t, t.TempDir())
	if err := db.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := db.Get(t.Context(), "k", AtLeast(1000))
		done <- err
	}()
	waiting := func() bool {
		db.revisions.mu.Lock()
		defer db.revisions.mu.Unlock()
		return len(db.revisions.waiters) == 1
	}
	for !waiting() {
		<-time.After(time.Millisecond)
	}
	db.Close()
	select {
	case err := <-done:
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the reader waits on")
	}
}

// TestPlace: a directory keeps the kind of member it was made for.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	openLonely(t, dir, nil).Close()
	if db, err := Open(Config{Dir: dir, ID: "a"}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("a member of three without network: %v", err)
		db.Close()
	}
}

// TestLostLog: a member whose log is gone but whose state is there has lost its
// vote, and refuses to take part.
func TestLostLog(t *testing.T) {
	dir := t.TempDir()
	db := openSingle(t, dir)
	if _, err := db.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), os.RemoveAll(filepath.Join(dir, "log"))); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(Config{Dir: dir}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open: %v", err)
		db.Close()
	}
}

// TestReopenAfterHalt: a halt that is not the disk's leaves nothing behind, and
// the directory can be opened again.
func TestReopenAfterHalt(t *testing.T) {
	dir := t.TempDir()
	db := openSingle(t, dir)
	if _, err := db.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	db.raft.Apply([]byte("garbage"), time.Second)
	<-db.Done()
	db.Close()
	if db.left != "" {
		t.Errorf("left: %q", db.left)
	}
	again, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	<-again.Done() // the garbage is in the log: it halts again
	if err := again.Err(); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	again.Close()
}

// TestWrongNeighbours: members of clusters with equal tables and different
// tokens refuse each other, and the error says so.
func TestWrongNeighbours(t *testing.T) {
	var listeners []net.Listener
	var table []Member
	for _, id := range []string{"a", "b"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, table = append(listeners, l), append(table, Member{ID: id, Addr: l.Addr().String()})
	}
	var dbs []*DB
	for i, token := range []string{"staging", "production"} {
		db, err := Open(Config{Dir: t.TempDir(), ID: table[i].ID, Addr: table[i].Addr, Listener: listeners[i], InitialCluster: table,
			ClusterToken: token, InsecurePeers: true, RequestTimeout: 2500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		dbs = append(dbs, db)
	}
	for _, db := range dbs {
		if _, err := db.Set(context.Background(), "k", nil); !errors.Is(err, ErrNoLeader) || !errors.Is(err, ErrWrongCluster) {
			t.Errorf("%s: %v", db.cfg.ID, err)
		}
	}
}
