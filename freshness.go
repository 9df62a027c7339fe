package replkv

import (
	"sync"
	"time"
)

// freshness bounds how stale this member's own state is. A read index that was
// asked for at some time covers all that was acknowledged before: once it is
// applied, the state is at most as old as the asking. The leader's heartbeats
// will not do, nor raft's LastContact: they carry no commit index.
type freshness struct {
	mu sync.Mutex // protects the fields below
	// waiting is an answer whose index was not applied when it came: others are
	// dropped until it is, else one that is applied might never be seen. applied is
	// the last one that is.
	waiting, applied readPoint
}

// readPoint is a read index and when it was asked for, or confirmed on the
// leader: before the first message of its round.
type readPoint struct {
	asked time.Time // zero: none
	index uint64
}

// note records an answer.
func (f *freshness) note(p readPoint, applied uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settle(applied) {
		f.waiting = p
		f.settle(applied)
	}
}

// settle says whether nothing waits any more.
func (f *freshness) settle(applied uint64) bool {
	if f.waiting.index > applied {
		return false
	}
	if f.waiting.asked.After(f.applied.asked) {
		f.applied = f.waiting
	}
	return true
}

// within says whether a state that has applied so much is at most d old.
func (f *freshness) within(d time.Duration, applied uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settle(applied)
	if f.applied.asked.IsZero() {
		return false
	}
	// The monotonic clock stands still while the machine is suspended, the other
	// may be set back.
	wall := time.Now().Round(0).Sub(f.applied.asked.Round(0))
	return max(time.Since(f.applied.asked), wall) <= d
}
