package lease

import (
	"context"
	"time"
)

// round is what is proposed together. There is one at a time, so that the log
// gets decisions in the order in which they were made: a lease that was told of as
// running out, and then kept alive, must not be in the log the other way round.
type round struct {
	term    uint64
	entries []*entry
	ds      []Decision
	work    uint64
	revokes bool
}

func (r *round) add(e *entry, d Decision, work uint64) {
	d.ID, d.Generation = e.ID, e.Generation
	r.entries, r.ds = append(r.entries, e), append(r.ds, d)
	r.work += work
}

func (r *round) fits(work uint64) bool { return len(r.ds) == 0 || r.work+work <= maxWork }

// Run proposes what is due until ctx ends.
func (l *Lessor) Run(ctx context.Context) {
	for ctx.Err() == nil {
		r, idle := l.next(time.Now())
		if len(r.ds) == 0 {
			l.sleep(ctx, idle, l.wake)
			continue
		}
		done, err := l.log(ctx, r.term, r.ds)
		if l.settle(r, done, err) {
			l.sleep(ctx, retryPause, nil)
		}
	}
}

// sleep waits for d, if that is not negative, for wake, or for the end of ctx.
func (l *Lessor) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	var ring <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		ring = t.C
	}
	select {
	case <-ring:
	case <-wake:
	case <-ctx.Done():
	}
}

// next takes what is due. If nothing is, idle says how long to wait; negative: for
// ever.
func (l *Lessor) next(now time.Time) (r round, idle time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.term = l.term
	l.takeResetsLocked(&r)
	for len(l.timers) > 0 {
		e := l.timers[0]
		if e.next.After(now) {
			return r, e.next.Sub(now)
		}
		expired := !e.deadline.After(now)
		if expired && now.Before(l.calm) {
			return r, l.calm.Sub(now)
		}
		if expired {
			if !r.fits(1 + e.Keys) {
				return r, 0
			}
			e.revoking, r.revokes = true, true
			l.stopLocked(e)
			r.add(e, Decision{Revoke: true}, 1+e.Keys)
			continue
		}
		if !r.fits(1) {
			return r, 0
		}
		e.logged = min(e.logged, e.deadline.Sub(now))
		l.armLocked(e)
		r.add(e, Decision{Remaining: e.logged}, 1)
	}
	return r, -1
}

func (l *Lessor) takeResetsLocked(r *round) {
	for len(l.resets) > 0 && r.fits(1) {
		e := l.resets[0]
		l.resets = l.resets[1:]
		// It may have ended meanwhile, or be another of that id.
		if l.leases[e.ID] == e && !e.revoking {
			r.add(e, Decision{Remaining: e.TTL}, 1)
		} else {
			e.reset = false // and no timer: it is being revoked, or not in the table
		}
	}
}

// settle draws the conclusions. Again says that something must be proposed once
// more.
func (l *Lessor) settle(r round, done []bool, err error) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != r.term {
		return false
	}
	if r.revokes {
		l.calm = time.Now().Add(revokePause)
	}
	for i, e := range r.entries {
		if l.leases[e.ID] != e {
			continue // it was revoked
		}
		if err == nil && i < len(done) && done[i] {
			l.doneLocked(e, r.ds[i])
			continue
		}
		again = true
		l.redoLocked(e, r.ds[i])
	}
	return again
}

func (l *Lessor) doneLocked(e *entry, d Decision) {
	switch {
	case d.Revoke: // cannot be: it would have left the table
		e.revoking = false
		l.armLocked(e)
	case e.reset && d.Remaining == e.TTL:
		e.reset, e.logged = false, e.TTL
		l.armLocked(e)
	}
	e.answer()
}

// redoLocked has a decision proposed again that was not applied, or may not have
// been. A revoke whose outcome is open is not taken back: as far as anybody knows
// it is in the log.
func (l *Lessor) redoLocked(e *entry, d Decision) {
	switch {
	case d.Revoke:
		e.deadline = time.Now()
		l.armLocked(e)
	case e.reset && d.Remaining == e.TTL:
		l.resets = append(l.resets, e)
	}
}
