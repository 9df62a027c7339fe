package replkv

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
)

// feeds keeps, for each follower that was sent a snapshot, the log that follows
// it, from the entry before the one that the follower needs next, until it has caught up:
// without it the follower would need the next snapshot, for ever. A pin without
// progress, or of too many bytes, ends by itself.
type feeds struct {
	commit func() uint64 // the leader's commit index
	n      atomic.Int32  // len(pins): nearly always 0, and asked at each append
	mu     sync.Mutex    // protects pins
	pins   map[raft.ServerID]*raftlog.Pin
}

// begin ties a pin to the follower it was made for.
func (f *feeds) begin(id raft.ServerID, pin *raftlog.Pin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.pins[id]; old != nil {
		old.Release()
	}
	if f.pins == nil {
		f.pins = make(map[raft.ServerID]*raftlog.Pin)
	}
	f.pins[id] = pin
	f.n.Store(int32(len(f.pins)))
}

// matched says that a follower has the log up to index.
func (f *feeds) matched(id raft.ServerID, index uint64) {
	if f.n.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pin := f.pins[id]
	if pin == nil {
		return
	}
	pin.Advance(index) // raft sends the term of this entry with the next
	if !pin.Held() || index >= f.commit() {
		pin.Release()
		delete(f.pins, id)
		f.n.Store(int32(len(f.pins)))
	}
}
