package concurrency

import (
	"context"

	"github.com/replkv/replkv/kv"
)

// Mutex is a lock that sessions share by its name. Who comes first has it first. See
// the package for what it can promise. Who waits looks through the keys of all who
// wait when it comes, and when the one right before it is gone; else it costs a watch.
//
// It is not reentrant: a session that has the lock, or waits for it, gets ErrHeld,
// also through another Mutex of the name. Goroutines that want to exclude each other
// use a sync.Mutex, or a session each.
type Mutex struct{ h holder }

// NewMutex returns the lock of that name, which must not be empty, for a session.
func NewMutex(s *Session, name string) *Mutex { return &Mutex{holder{s: s, name: name}} }

// Lock waits until the session has the lock, and returns the fencing token of this
// holding. It goes on while the store has no leader, until ctx or the session ends.
//
// ErrSessionEnded; ErrHeld, at once; ErrInvalidArgument: the name is empty;
// ErrTooLarge: it is too long for a key; ErrNotHeld: somebody has deleted the key; the
// cause of ctx's end. After an error the lock is not held, and what may be left of the
// attempt is removed in the background: it may be retried.
func (m *Mutex) Lock(ctx context.Context) (Token, error) {
	return m.h.hold(ctx, "Lock", func(ctx context.Context, p *place) error {
		if err := p.enter(ctx, nil); err != nil {
			return err
		}
		return p.await(ctx)
	})
}

// TryLock is Lock, but ErrLocked if another session has the lock, or waits for it;
// two that try at once may both be told so. It waits for the store, not for others.
func (m *Mutex) TryLock(ctx context.Context) (Token, error) {
	return m.h.hold(ctx, "TryLock", func(ctx context.Context, p *place) error {
		if err := p.alone(ctx); err != nil { // mostly: and nothing was written
			return err
		}
		if err := p.enter(ctx, nil); err != nil {
			return err
		}
		ahead, _, err := p.look(ctx)
		if err == nil && ahead != "" {
			err = ErrLocked
		}
		return err
	})
}

// Unlock gives the lock up: the next one has it when the key is deleted. ErrNotHeld;
// ErrSessionEnded: it was lost, and may have been for some time. If ctx ends first,
// the session goes on in the background: no retry is needed, and one returns
// ErrNotHeld.
func (m *Mutex) Unlock(ctx context.Context) error { return m.h.release(ctx, "Unlock") }

// IsOwner is a comparison that holds as long as the lock is held: with it among
// Txn.If a transaction is done only then, whatever happened to this process
// meanwhile. If the lock is not held now it never holds.
func (m *Mutex) IsOwner() kv.Compare { return m.h.isOwner() }

// Done is closed when the lock, if it is held, may be lost: it is Session.Done.
func (m *Mutex) Done() <-chan struct{} { return m.h.s.Done() }
