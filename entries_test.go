package replkv

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
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
