package concurrency

import (
	"context"
	"iter"

	"github.com/replkv/replkv/kv"
)

// Election has one of the sessions that campaign under its name lead; the others
// follow in the order in which they came. A leader has a value, such as its address.
// What a Mutex can promise, and cannot, is true of it, too.
type Election struct{ h holder }

// NewElection returns the election of that name, which must not be empty, for a
// session. Who only wants to know who leads needs none: Leader, Observe.
func NewElection(s *Session, name string) *Election { return &Election{holder{s: s, name: name}} }

// Campaign waits until the session leads, with that value, and returns the fencing
// token of this leadership. Errors and retries are those of Mutex.Lock; ErrHeld if it
// leads already, then Proclaim changes the value; ErrTooLarge if a value cannot be so
// large.
func (e *Election) Campaign(ctx context.Context, value []byte) (Token, error) {
	return e.h.hold(ctx, "Campaign", func(ctx context.Context, p *place) error {
		if err := p.enter(ctx, value); err != nil {
			return err
		}
		return p.await(ctx)
	})
}

// Proclaim changes the leader's value. ErrNotHeld if the session does not lead,
// ErrSessionEnded. It may be retried freely: of an attempt whose outcome is unknown
// nothing comes after a later one that succeeded.
func (e *Election) Proclaim(ctx context.Context, value []byte) error {
	p := e.h.current()
	if p == nil {
		return failed("Proclaim", kv.OutcomeNotDone, ErrNotHeld)
	}
	ctx, cancel := e.h.s.within(ctx)
	defer cancel()
	if err := p.propose(ctx, value); err != nil {
		return failed("Proclaim", kv.OutcomeOf(err), e.h.s.reason(ctx, err))
	}
	return nil
}

// Resign gives the leadership up: the next one leads when the key is deleted. Errors
// and retries are those of Mutex.Unlock.
func (e *Election) Resign(ctx context.Context) error { return e.h.release(ctx, "Resign") }

// IsOwner is a comparison that holds as long as the session leads: see Mutex.IsOwner.
func (e *Election) IsOwner() kv.Compare { return e.h.isOwner() }

// Done is closed when the leadership, if the session has it, may be lost: it is
// Session.Done.
func (e *Election) Done() <-chan struct{} { return e.h.s.Done() }

// Leader is Leader for this election.
func (e *Election) Leader(ctx context.Context) (kv.Item, error) {
	return Leader(ctx, e.h.s.store, e.h.name)
}

// Observe is Observe for this election. It goes on when the session has ended.
func (e *Election) Observe(ctx context.Context) iter.Seq2[kv.Item, error] {
	return Observe(ctx, e.h.s.store, e.h.name)
}

// Leader returns who leads the election of that name: an item with its value, its
// session's Lease, and its token as CreateRevision. ErrNotFound if nobody does. The
// read is linearizable; it may be retried freely.
func Leader(ctx context.Context, store kv.KV, name string) (kv.Item, error) {
	err := checkName(name)
	if err == nil {
		var it kv.Item
		if it, err = queueOf(name).leader(ctx, store); err == nil {
			return it, nil
		}
	}
	return kv.Item{}, failed("Leader", kv.OutcomeNotDone, err)
}
