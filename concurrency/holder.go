package concurrency

import (
	"context"
	"sync"

	"github.com/replkv/replkv/kv"
)

// Token is a fencing token: that of a later holder of the same name is higher. It is
// the revision at which the holder came into the queue.
type Token int64

// holder is what a Mutex and an Election have in common: the first place in a queue.
type holder struct {
	s    *Session
	name string

	mu   sync.Mutex // protects the field below
	held *place     // nil: not held
}

// hold has take make a place the first. Whatever fails, the name is not held after.
func (h *holder) hold(ctx context.Context, op string, take func(context.Context, *place) error) (Token, error) {
	p, err := h.s.acquire(ctx, h.name, take)
	if err != nil {
		return 0, failed(op, kv.OutcomeNotDone, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = p
	return p.token(), nil
}

func (h *holder) current() *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// release gives the place up, and returns when it is gone from the store.
func (h *holder) release(ctx context.Context, op string) error {
	h.mu.Lock()
	p := h.held
	h.held = nil
	h.mu.Unlock()
	if p == nil {
		return failed(op, kv.OutcomeNotDone, ErrNotHeld)
	}
	p.leave()
	select {
	case <-p.left:
	case <-ctx.Done():
		return failed(op, kv.OutcomeUnknown, context.Cause(ctx))
	}
	if p.err != nil {
		return failed(op, kv.OutcomeNotDone, p.err)
	}
	return nil
}

// isOwner holds at each revision at which the name is held.
func (h *holder) isOwner() kv.Compare {
	if p := h.current(); p != nil {
		return p.isOwner()
	}
	key := queueOf(h.name).key(h.s.lease)
	return kv.Compare{Range: kv.Key(key), Target: kv.TargetCreateRevision, Is: kv.Less} // than 0: never
}
