package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// locks: no two hold a lock at once, as each holder knows it; tokens rise; what they
// guard is written in the order of the tokens; and in the end nothing is left.
type locks struct {
	mu   sync.Mutex // protects the field below
	held []holding
}

const (
	lockClients = 3
	lockName    = "job"
	resource    = "resource"
	lockTTL     = 2 * time.Second
)

// holding is one holding of the lock, as its holder saw it.
type holding struct {
	token      concurrency.Token
	begin, end time.Time
}

func (l *locks) begin(context.Context, *run) error { return nil }

func (l *locks) clients(r *run) (out []func(context.Context)) {
	for range lockClients {
		out = append(out, (&locker{client: r.newCaller(), locks: l}).run)
	}
	return out
}

// settle waits until the queue is empty: sessions that could not be closed expire.
func (l *locks) settle(ctx context.Context, r *run) {
	end := time.Now().Add(2*lockTTL + 10*r.plan.election)
	for {
		left, err := keys(ctx, r, lockName+"/")
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			r.fail("places in the queue of a lock are left: %v, %v", left, err)
			return
		}
		pause(ctx, 500*time.Millisecond)
	}
}

func (l *locks) check(r *run) {
	slices.SortFunc(l.held, func(a, b holding) int { return a.begin.Compare(b.begin) })
	for i := 1; i < len(l.held); i++ {
		a, b := l.held[i-1], l.held[i]
		if a.end.After(b.begin) || b.token <= a.token {
			since := func(t time.Time) time.Duration { return t.Sub(r.log.began) }
			r.fail("token %d from %v to %v, and token %d from %v", a.token, since(a.begin), since(a.end), b.token, since(b.begin))
		}
	}
	r.cover.add(countLocks, len(l.held))
	if r.past == nil {
		return
	}
	highest := 0
	for _, v := range r.past.keys[resource] {
		if token := number(v.item); token <= highest {
			r.fail("revision %d: token %d after %d", v.rev, token, highest)
		} else {
			highest = token
		}
	}
}

// locker takes the lock again and again, with a new session when one is lost.
type locker struct {
	*client
	locks *locks
	with  concurrency.Store // of the session
	id    string
}

func (w *locker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.with, w.id = w.store()
		s, err := concurrency.NewSession(ctx, w.with, lockTTL)
		if err != nil {
			w.move()
			w.rest(ctx)
			continue
		}
		ended := make(chan time.Time, 1)
		go func() { <-s.Done(); ended <- time.Now() }()
		m := concurrency.NewMutex(s, lockName)
		for w.once(ctx, s, m, ended) {
			w.rest(ctx)
		}
		if s.Err() != nil {
			w.r.count(countSessions)
		}
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		s.Close(closing) // if it fails the lease ends by itself
		cancel()
		w.move()
		w.rest(ctx)
	}
}

// once holds the lock once. False: the session is lost.
func (w *locker) once(ctx context.Context, s *concurrency.Session, m *concurrency.Mutex, ended <-chan time.Time) bool {
	wait, cancel := context.WithTimeout(ctx, time.Duration(w.rng.IntN(3000))*time.Millisecond)
	defer cancel()
	token, err := m.Lock(wait)
	switch {
	case errors.Is(err, concurrency.ErrSessionEnded), ctx.Err() != nil, w.stopped(), errors.Is(err, replkv.ErrClosed):
		return false
	case errors.Is(err, context.DeadlineExceeded):
		return true
	case err != nil:
		w.r.fail("Lock: %v", err)
		return false
	}
	h := holding{token: token, begin: time.Now()}
	w.write(ctx, m, token)
	timer := time.NewTimer(time.Duration(w.rng.IntN(500)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.Done():
	}
	h.end = time.Now()
	lost := s.Err() != nil
	if lost {
		h.end = <-ended // the call above does not put it off
	}
	w.locks.mu.Lock()
	w.locks.held = append(w.locks.held, h)
	w.locks.mu.Unlock()
	if lost {
		return false
	}
	unlocking, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	return m.Unlock(unlocking) == nil
}

// stopped says whether the session's member has.
func (w *locker) stopped() bool {
	db, ok := w.with.(*replkv.DB)
	return ok && db.Err() != nil
}

// write has the store check the token, and writes down what it protects.
func (w *locker) write(ctx context.Context, m *concurrency.Mutex, token concurrency.Token) {
	op := &Op{Kind: "guarded set", Puts: map[string]string{resource: fmt.Sprint(token)}, When: []replkv.Compare{m.IsOwner()}}
	op.Client, op.Member = w.number, w.id
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w.r.hist.begin(op)
	res, err := w.with.Txn(ctx, replkv.Txn{If: op.When, Then: []replkv.Op{replkv.SetOp(resource, []byte(op.Puts[resource]))}})
	op.Revision = res.Revision
	if err == nil && !res.Succeeded {
		err = &replkv.Error{Op: "guarded set", Outcome: replkv.OutcomeNotDone, Err: replkv.ErrConflict}
	}
	w.r.hist.end(op, err)
}
