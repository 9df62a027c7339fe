package replkv

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// waitList wakes those who wait for a number, such as the applied index, to
// reach theirs.
type waitList struct {
	known atomic.Uint64 // at, for those who need not wait

	mu      sync.Mutex // protects the fields below
	at      uint64     // the newest number known
	waiters []waiter
}

type waiter struct {
	want uint64
	ch   chan struct{}
}

// advance moves to n, never back, and wakes whom it satisfies.
func (w *waitList) advance(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n <= w.at {
		return
	}
	w.at = n
	w.known.Store(n)
	keep := w.waiters[:0]
	for _, x := range w.waiters {
		if x.want <= n {
			close(x.ch)
		} else {
			keep = append(keep, x)
		}
	}
	clear(w.waiters[len(keep):])
	w.waiters = keep
}

// wait returns nil once the number is at or above want, or the cause of
// whichever context ends first: the caller's or the call's limit.
func (w *waitList) wait(ctx, limit context.Context, want uint64) error {
	if w.known.Load() >= want {
		return nil
	}
	w.mu.Lock()
	if w.at >= want {
		w.mu.Unlock()
		return nil
	}
	x := waiter{want, make(chan struct{})}
	w.waiters = append(w.waiters, x)
	w.mu.Unlock()
	select {
	case <-x.ch:
		return nil
	case <-ctx.Done():
		w.leave(x)
		return context.Cause(ctx)
	case <-limit.Done():
		w.leave(x)
		return context.Cause(limit)
	}
}

func (w *waitList) leave(x waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiters = slices.DeleteFunc(w.waiters, func(o waiter) bool { return o.ch == x.ch })
}
