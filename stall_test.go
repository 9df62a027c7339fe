package replkv

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// TestApplyHangs: a state that does not come back from an apply stops the store.
func TestApplyHangs(t *testing.T) {
	hang, release := make(chan struct{}), make(chan struct{})
	v, err := hook.Open(Config{Dir: "data", WriteDeadline: 200 * time.Millisecond}, hook.Edges{FS: disk.NewMem(), Failpoint: func(name string) error {
		select {
		case <-hang:
			if name == "apply" {
				<-release
			}
		default:
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	db := v.(*DB)
	if _, err := db.Set(t.Context(), "k", nil); err != nil { // its session is open now
		t.Fatal(err)
	}
	close(hang)
	_, err = db.Set(t.Context(), "k", nil)
	if !errors.Is(err, raftlog.ErrStalled) || OutcomeOf(err) != OutcomeUnknown {
		t.Errorf("Set: %v, outcome %v", err, OutcomeOf(err))
	}
	<-db.Done()
	if !errors.Is(db.Err(), raftlog.ErrStalled) {
		t.Error(db.Err())
	}
	close(release)
	db.Close()
}

// TestStuckHandOver: a leader that refuses all entries for ever, because of a
// hand-over that does not end, stops.
func TestStuckHandOver(t *testing.T) {
	db := openSingle(t, t.TempDir())
	if _, err := db.Set(t.Context(), "k", nil); err != nil { // it leads, and proposes nothing more
		t.Fatal(err)
	}
	now := time.Now()
	db.cfg.edges.Now = func() time.Time { return now }
	db.entries.watchTransfer(raft.ErrLeadershipTransferInProgress)
	now = now.Add(5 * db.cfg.ElectionTimeout)
	db.entries.watchTransfer(nil)
	db.entries.watchTransfer(raft.ErrLeadershipTransferInProgress)
	now = now.Add(9 * db.cfg.ElectionTimeout)
	db.entries.watchTransfer(raft.ErrLeadershipTransferInProgress)
	if err := db.Err(); err != nil {
		t.Fatalf("too early: %v", err)
	}
	now = now.Add(2 * db.cfg.ElectionTimeout)
	db.entries.watchTransfer(raft.ErrLeadershipTransferInProgress)
	if !errors.Is(db.Err(), errStuck) {
		t.Fatal(db.Err())
	}
}
