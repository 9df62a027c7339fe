package raftlog

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// floorInterval is how far the floor's indexes may lag behind the log. Why not
// shorter: each write is one more sync. Why not longer: what the log lost of
// that time goes unnoticed.
const floorInterval = time.Second

// keeper writes a Guard's floor.
//
// Invariants: what the floor says was true of the log or the stable store
// before it was written (truth first, floor second: a crash in between leaves
// a lower floor, which is no false alarm); it is lowered before the log is.
// Terms never go down. Index goes down only in lower and whole, Applied only
// in whole; while the member is below its floor, Index goes down only if a
// leader's conflict proves that what follows was never committed.
type keeper struct {
	floor    *Floor
	applied  func() uint64
	deadline time.Duration
	failed   *failure
	worker   *worker       // runs all writes of the floor; what they write they decide there
	changed  chan struct{} // holds one: there is something to write
	quit     chan struct{}
	ended    chan struct{} // closed when run is over

	mu struct { // protects the fields below; never held across a write
		sync.Mutex
		end   raft.Log // index and term of the log's last entry, as far as known
		fed   bool     // entries were stored since CheckFloor
		began uint64   // the applied index at CheckFloor
		below bool     // the member lacks what the floor says
	}
}

func startKeeper(o GuardOptions, failed *failure) *keeper {
	k := &keeper{floor: o.Floor, applied: o.Applied, deadline: o.Deadline, failed: failed, worker: startWorker(failed),
		changed: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	if k.applied == nil {
		k.applied = func() uint64 { return 0 }
	}
	go k.run()
	return k
}

// run writes the indexes, at most once per floorInterval, when they changed.
func (k *keeper) run() {
	defer close(k.ended)
	for k.wait(k.changed, nil) {
		timer := time.NewTimer(floorInterval)
		due := k.wait(nil, timer.C)
		timer.Stop()
		if !due {
			return
		}
		select {
		case <-k.changed: // this write includes it
		default:
		}
		if err := k.write(k.advanced); err != nil {
			k.failed.fail(err)
			return
		}
	}
}

// wait waits for either; false if it is over.
func (k *keeper) wait(changed <-chan struct{}, due <-chan time.Time) bool {
	select {
	case <-changed:
		return true
	case <-due:
		return true
	case <-k.quit:
		return false
	case <-k.failed.ch:
		return false
	}
}

// stored says that the log now ends in last. It is called by each StoreLogs
// and must cost nothing.
func (k *keeper) stored(last *raft.Log) {
	k.mu.Lock()
	k.mu.end.Index, k.mu.end.Term, k.mu.fed = last.Index, last.Term, true
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// write changes the floor and returns when that is on stable storage.
func (k *keeper) write(change func(s FloorState) FloorState) error {
	return k.worker.do("floor", k.deadline, func() error {
		old := k.floor.State()
		if s := change(old); s != old {
			return k.floor.Write(s)
		}
		return nil
	})
}

// advanced is s with the indexes where they are now; never lower.
func (k *keeper) advanced(s FloorState) FloorState {
	applied := k.applied()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.below {
		return s
	}
	if end := k.mu.end; end.Index >= s.Index && end.Index > 0 {
		s.Index, s.IndexTerm = end.Index, end.Term
	}
	s.Applied = max(s.Applied, applied)
	return s
}

// lower is called before the log loses all entries after (index, term). reset:
// it loses all it has, since a snapshot was installed; that proves nothing
// about entries that were lost before.
func (k *keeper) lower(index, term uint64, reset bool) error {
	k.mu.Lock()
	k.mu.end.Index, k.mu.end.Term = index, term
	if reset {
		k.mu.end.Index = 0
	}
	keep := k.mu.below && reset
	k.mu.Unlock()
	return k.write(func(s FloorState) FloorState {
		if s.Index > index && !keep {
			s.Index, s.IndexTerm = index, term
		}
		return k.advanced(s)
	})
}

func (k *keeper) term(term uint64) error {
	return k.write(func(s FloorState) FloorState {
		s.Term = max(s.Term, term)
		return k.advanced(s)
	})
}

// vote is called once raft has stored both parts of its vote: before that, it
// has promised nothing.
func (k *keeper) vote(term uint64, candidate []byte) error {
	return k.write(func(s FloorState) FloorState {
		if term >= s.VoteTerm {
			s.VoteTerm, s.Candidate = term, cutCandidate(string(candidate))
		}
		return k.advanced(s)
	})
}

// whole has the floor follow the log again, from where it is now.
func (k *keeper) whole() error {
	return k.write(func(s FloorState) FloorState {
		s.Applied = k.applied()
		k.mu.Lock()
		defer k.mu.Unlock()
		s.Index, s.IndexTerm = k.mu.end.Index, k.mu.end.Term
		k.mu.below = false
		return s
	})
}

// close writes the indexes a last time, unless there was a fatal error, and
// closes the floor, unless a write hangs.
func (k *keeper) close() error {
	close(k.quit)
	<-k.ended
	var err error
	if k.failed.err() == nil {
		err = k.write(k.advanced)
	}
	k.worker.end()
	var expired <-chan time.Time
	if k.deadline > 0 {
		timer := time.NewTimer(k.deadline)
		defer timer.Stop()
		expired = timer.C
	}
	if errors.Is(k.failed.err(), ErrStalled) {
		return err // waiting once more would not help
	}
	select {
	case <-k.worker.ended:
		return errors.Join(err, k.floor.Close())
	case <-expired:
		return k.failed.fail(stalled("close", k.deadline))
	}
}
