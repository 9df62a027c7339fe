package lease

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/replkv/replkv/kv"
)

// Lease is what the log says of a lease.
type Lease struct {
	ID         kv.LeaseID
	Generation uint64 // of the grant
	TTL        time.Duration
	Remaining  time.Duration // when the log last said so
	Keys       uint64        // that its revoke looks at
}

// Decision is what the lessor wants the log to say of a lease.
type Decision struct {
	ID         kv.LeaseID
	Generation uint64
	Revoke     bool
	Remaining  time.Duration // without Revoke
}

// Log proposes decisions of a term. Done says of each whether it was applied, in
// that term, by the time Log returns. After an error it is not known.
type Log func(ctx context.Context, term uint64, ds []Decision) (done []bool, err error)

// State is how a lease stands by the leader's clock. TTL 0: there is none.
type State struct {
	TTL, Remaining time.Duration
	// Pending: the log has not decided yet whether the lease goes on, or does not know
	// that it was kept alive. It is nothing that a caller may be told.
	Pending bool
}

// The work of one round of decisions, and with it of one log entry, is bounded,
// and rounds that revoke keep a distance: writes go on while ten thousand leases
// expire at once.
const (
	maxWork     = 1024 // leases, and keys of those that are revoked; one lease at least
	revokePause = 10 * time.Millisecond
	retryPause  = 50 * time.Millisecond // after a failure
)

// stepOf is how much less must be left of a lease than the log knows before it is
// told again.
func stepOf(ttl time.Duration) time.Duration { return max(ttl/10, 10*time.Second) }

// Lessor has the timers of all leases while this member leads. Its methods may be
// called from any goroutine; Changed never blocks.
type Lessor struct {
	log  Log
	wake chan struct{} // capacity 1: something is due earlier

	mu     sync.Mutex    // protects the fields below
	term   uint64        // 0: does not lead
	newest uint64        // term that began
	began  time.Time     // the term
	ended  chan struct{} // closed at the end of term
	leases map[kv.LeaseID]*entry
	timers timers   // entries with something to come
	resets []*entry // to be proposed: the log does not know that they were kept alive
	calm   time.Time
}

// New returns a lessor that does not lead.
func New(log Log) *Lessor { return &Lessor{log: log, wake: make(chan struct{}, 1)} }

// entry is a lease with its timer.
type entry struct {
	Lease
	deadline time.Time
	// logged is the least that a new leader may find in the log as what is left:
	// lowered before a decision is proposed, raised after it was applied.
	// Invariant: while logged is below TTL, no keep-alive is answered.
	logged   time.Duration
	revoking bool // its revoke is proposed, or may have been: the outcome is open
	reset    bool // in resets, or proposed
	decided  chan struct{}
	next     time.Time // when the timer rings
	at       int       // in timers; -1: not there
}

// Term returns the term that the lessor is in charge of; 0: none.
func (l *Lessor) Term() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

// Begin takes charge in a term in which this member leads and has applied all
// that was committed before; a term begins once. Invariant: each change of a lease
// is either in leases, or told by Changed afterwards.
func (l *Lessor) Begin(term uint64, leases []Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term <= l.newest {
		return
	}
	l.endLocked()
	l.term, l.newest, l.ended = term, term, make(chan struct{})
	l.leases = make(map[kv.LeaseID]*entry, len(leases))
	l.began = time.Now()
	for _, x := range leases {
		l.addLocked(x, l.began)
	}
	l.signal()
}

// End is told that this member does not lead any more in that term, or never did.
func (l *Lessor) End(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term {
		l.endLocked()
	}
}

func (l *Lessor) endLocked() {
	if l.term == 0 {
		return
	}
	close(l.ended)
	l.term, l.leases, l.timers, l.resets, l.calm = 0, nil, nil, nil, time.Time{}
}

// Changed is told of each change that was applied; without there, the lease has
// ended.
func (l *Lessor) Changed(x Lease, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 {
		return
	}
	e := l.leases[x.ID]
	switch {
	case e != nil && there && e.Generation == x.Generation:
		e.Keys = x.Keys // what is left of it, settle knows better
		return
	case e != nil:
		l.dropLocked(e)
	}
	if there {
		l.addLocked(x, time.Now())
	}
}

func (l *Lessor) addLocked(x Lease, now time.Time) {
	e := &entry{Lease: x, deadline: now.Add(x.Remaining), logged: x.Remaining, at: -1}
	l.leases[x.ID] = e
	l.armLocked(e)
}

func (l *Lessor) dropLocked(e *entry) {
	delete(l.leases, e.ID)
	l.stopLocked(e)
	e.answer()
}

// answer wakes those who wait for what was proposed.
func (e *entry) answer() {
	if e.decided != nil {
		close(e.decided)
		e.decided = nil
	}
}

func (e *entry) wait() <-chan struct{} {
	if e.decided == nil {
		e.decided = make(chan struct{})
	}
	return e.decided
}

// armLocked sets the timer to what comes first: the end, or the next time that
// the log is told. The latter falls on whole seconds of the term, not of a clock
// that may be set, so that many go in one entry. Of a lease that is kept alive at a
// third of its TTL the log is never told. Nor of one that was kept alive and of which the
// log does not know that yet: in one entry with that, it would say the opposite.
func (l *Lessor) armLocked(e *entry) {
	e.next = e.deadline
	if tell := min(e.TTL/2, e.logged-stepOf(e.TTL)); tell > 0 && !e.reset {
		since := e.deadline.Add(-tell).Sub(l.began)
		if t := l.began.Add((since + time.Second - 1).Truncate(time.Second)); t.Before(e.deadline) {
			e.next = t
		}
	}
	if e.at < 0 {
		heap.Push(&l.timers, e)
	} else {
		heap.Fix(&l.timers, e.at)
	}
	if e.at == 0 {
		l.signal()
	}
}

func (l *Lessor) stopLocked(e *entry) {
	if e.at >= 0 {
		heap.Remove(&l.timers, e.at)
	}
}

func (l *Lessor) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Look returns how leases stand, in the order of ids. kv.ErrNoLeader if the term
// is over.
func (l *Lessor) Look(term uint64, ids []kv.LeaseID) ([]State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term || term == 0 {
		return nil, kv.ErrNoLeader
	}
	out := make([]State, len(ids))
	now := time.Now()
	for i, id := range ids {
		if e := l.leases[id]; e != nil {
			out[i] = State{TTL: e.TTL, Remaining: max(e.deadline.Sub(now), 0)}
		}
	}
	return out, nil
}

// patience is how long a keep-alive waits for the log, before it is Pending: others
// were asked about in the same request, or wait for the next.
const patience = 100 * time.Millisecond

// KeepAlive gives leases their full TTL again, and returns how they stand. The
// caller has confirmed, after it was asked, that this member leads in term.
// kv.ErrNoLeader if the term is over.
func (l *Lessor) KeepAlive(ctx context.Context, term uint64, ids []kv.LeaseID) ([]State, error) {
	out := make([]State, len(ids))
	enough := time.NewTimer(patience)
	defer enough.Stop()
	waits := true
	for _, id := range ids { // first all, so that the log is told of them together
		if _, _, err := l.keep(term, id); err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		for {
			s, w, err := l.keep(term, id)
			if err != nil {
				return nil, err
			}
			if w == nil || !waits {
				out[i] = s
				break
			}
			select {
			case <-w.decided:
			case <-w.ended:
			case <-enough.C:
				waits = false
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return out, nil
}

// wait is for the log to decide, or for the end of the term.
type wait struct{ decided, ended <-chan struct{} }

// keep keeps one lease alive, or says what to wait for; it is Pending then.
func (l *Lessor) keep(term uint64, id kv.LeaseID) (State, *wait, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term || term == 0 {
		return State{}, nil, kv.ErrNoLeader
	}
	e := l.leases[id]
	switch {
	case e == nil:
		return State{}, nil, nil
	case e.revoking:
		return State{Pending: true}, &wait{e.wait(), l.ended}, nil
	}
	e.deadline = time.Now().Add(e.TTL)
	if e.logged < e.TTL && !e.reset {
		e.reset = true
		l.resets = append(l.resets, e)
		l.signal()
	}
	l.armLocked(e)
	if e.logged == e.TTL {
		return State{TTL: e.TTL, Remaining: e.TTL}, nil, nil
	}
	return State{Pending: true}, &wait{e.wait(), l.ended}, nil
}
