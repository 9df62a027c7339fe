package replkv

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/transport"
)

// TestWhatIsCertainlyNotDone: an entry that a leader has appended may be committed by
// its successor, whatever the leader says of it.
func TestWhatIsCertainlyNotDone(t *testing.T) {
	for err, want := range map[error]bool{
		raft.ErrNotLeader: true, raft.ErrEnqueueTimeout: true, raft.ErrLeadershipTransferInProgress: true,
		raft.ErrLeadershipLost: false, raft.ErrRaftShutdown: false, raft.ErrAbortedByRestore: false, errors.New("another"): false,
	} {
		if got := definitelyNotDone(err); got != want {
			t.Errorf("after %q certainly not done: %v, want %v", err, got, want)
		}
	}
}

// TestARefusalOfRaftHasAName: what raft has not taken up is told another member in words
// that it knows.
func TestARefusalOfRaftHasAName(t *testing.T) {
	db := openLonely(t, t.TempDir(), nil)
	a := db.entries.submit(t.Context(), unsessioned(&command.Op{Kind: command.Epoch}))
	there := wireerr.FromStatus(wireerr.ToStatus(db.wrap("Forward", OutcomeNotDone, a.err)))
	if !a.notDone || !errors.Is(a.err, raft.ErrNotLeader) || !errors.Is(there, ErrNoLeader) {
		t.Errorf("%v, not done: %v; at the other member: %v", a.err, a.notDone, there)
	}
}

// TestTheLargestBatchFitsAnEntry: whatever Config allows, and so other members' may.
func TestTheLargestBatchFitsAnEntry(t *testing.T) {
	c := Config{MaxKeyBytes: mostKeyBytes, MaxValueBytes: mostValueBytes}
	if c.maxBatchBytes() != mostBatchBytes {
		t.Errorf("the largest batch has %d bytes, another member's may have %d", c.maxBatchBytes(), mostBatchBytes)
	}
	if n := mostBatchBytes + command.EnvelopeOverhead(1); n > transport.MaxEntryBytes {
		t.Errorf("an entry of %d bytes can not be sent", n)
	}
}
