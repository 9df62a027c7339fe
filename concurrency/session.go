package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/replkv/replkv/kv"
)

// Store is what a session works on: *replkv.DB and *client.Client are.
type Store interface {
	kv.KV
	kv.Lessor
}

// DefaultTTL is the TTL of a session. Why not shorter: a change of leaders, or a
// pause of the process, must not cost a lock. Why not longer: it is what others wait
// when a holder dies.
const DefaultTTL = 15 * time.Second

// Session is a lease that is kept alive, and what locks and elections hang on it.
// It is for concurrent use.
type Session struct {
	store Store
	lease kv.LeaseID
	ttl   time.Duration

	// ctx ends with the session; its cause says why.
	ctx context.Context
	end context.CancelCauseFunc

	background sync.WaitGroup // keeping alive, and leaving queues

	mu sync.Mutex // protects the field below, and starts in the background against Close
	// places has the session's place in each queue. Invariant: at most one per name,
	// so that nobody waits for itself.
	places map[string]*place
}

var (
	errClosed     = errors.New("it was closed")
	errNotRenewed = errors.New("its lease could not be kept alive in time")
)

// NewSession grants a lease of that TTL (0: DefaultTTL; else as Lessor.Grant has it)
// and keeps it alive, each third of the TTL, until ctx ends, the session is closed,
// or it is lost. The end of ctx ends the session, but leaves the lease to its TTL;
// Close ends that too. It may be retried freely.
func NewSession(ctx context.Context, store Store, ttl time.Duration) (*Session, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	granted := time.Now() // before the call: a lease never ends before this plus ttl
	id, err := store.Grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	s := &Session{store: store, lease: id, ttl: ttl, places: map[string]*place{}}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.background.Go(func() { s.keepAlive(granted) })
	return s, nil
}

// Lease is the session's lease: whoever sets keys WithLease(s.Lease()) has them
// deleted when the session ends.
func (s *Session) Lease() kv.LeaseID { return s.lease }

// Done is closed when the session has ended, or may have: its lease is gone, was not
// kept alive within its TTL by this process's clock, or ctx has ended, or Close was
// called. All locks that it holds are to be taken for lost then.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err says why the session has ended, as an ErrSessionEnded; nil if it has not.
func (s *Session) Err() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrSessionEnded, context.Cause(s.ctx))
}

// Close ends the session and revokes its lease: what hangs on it is deleted, and who
// waits for its locks has them. Done is closed before. If the revoke fails the lease
// ends by itself; Close may be called again, and succeeds if there is nothing left to
// do.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.end(errClosed) // from now on nothing starts in the background
	s.mu.Unlock()
	s.background.Wait() // all of it ends with s.ctx
	err := s.store.Revoke(ctx, s.lease)
	if errors.Is(err, kv.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// keepAlive renews the lease until the session ends, and ends it in time.
func (s *Session) keepAlive(renewed time.Time) {
	overdue := time.AfterFunc(time.Until(renewed.Add(s.ttl)), func() { s.end(errNotRenewed) })
	defer overdue.Stop()
	next := renewed.Add(s.ttl / 3)
	for {
		wait(s.ctx, time.Until(next))
		if s.ctx.Err() != nil {
			return
		}
		asked := time.Now() // before the call: the answer may have taken any time
		ttl, err := s.renew()
		switch {
		case err == nil:
			overdue.Reset(time.Until(asked.Add(ttl)))
			next = asked.Add(ttl / 3)
		case errors.Is(err, kv.ErrLeaseNotFound):
			s.end(err)
		default: // only the store knows; what it does not say in time, overdue does
			next = time.Now().Add(retryPause)
		}
	}
}

// renew is one attempt. It is given up in time for others.
func (s *Session) renew() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.ttl/3)
	defer cancel()
	return s.store.KeepAliveOnce(ctx, s.lease)
}

// within returns a ctx that ends with the session, too.
func (s *Session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// reason is why a call has failed: an end of the session or of the caller's ctx says
// more than what the store made of it.
func (s *Session) reason(ctx context.Context, err error) error {
	if errors.Is(err, errDeleted) {
		// By somebody, or with the lease, of which the next keep-alive would tell.
		if _, gone := s.store.TimeToLive(ctx, s.lease); errors.Is(gone, kv.ErrLeaseNotFound) {
			err = gone
		}
	}
	switch {
	case errors.Is(err, kv.ErrLeaseNotFound):
		s.end(err)
		return s.Err()
	case s.ctx.Err() != nil:
		return s.Err()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// acquire makes a place in the queue of name, and has take make it the first. On an
// error the place is given up, in the background.
func (s *Session) acquire(ctx context.Context, name string, take func(context.Context, *place) error) (*place, error) {
	p, err := s.reserve(ctx, name)
	if err != nil {
		return nil, s.reason(ctx, err)
	}
	within, cancel := s.within(ctx)
	defer cancel()
	if err = take(within, p); err == nil {
		err = s.Err()
	}
	if err != nil {
		err = s.reason(ctx, err)
		p.leave()
		return nil, err
	}
	return p, nil
}

// reserve makes a place that has no key yet. It waits until an earlier one of the
// session is gone from the store, but only if it is being given up: else ErrHeld.
func (s *Session) reserve(ctx context.Context, name string) (*place, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	for {
		p, mine, err := s.claim(name)
		if mine || err != nil {
			return p, err
		}
		select {
		case <-p.left:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// claim returns a new place, or the one that is in the way and being given up.
func (s *Session) claim(name string) (p *place, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Err(); err != nil {
		return nil, false, err
	}
	switch p = s.places[name]; {
	case p == nil:
		p = newPlace(s, name)
		s.places[name] = p
		return p, true, nil
	case p.leaving:
		return p, false, nil
	}
	return nil, false, ErrHeld
}
