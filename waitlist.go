package replkv

import (
	"context"
	"sync"
)

// waitList wakes those who wait for a number, such as the applied index, to
// reach theirs.
type waitList struct {
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

// wait returns nil once the number is at or above want, or the cause of ctx.
func (w *waitList) wait(ctx context.Context, want uint64) error {
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
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range w.waiters {
			if w.waiters[i].ch == x.ch {
				last := len(w.waiters) - 1
				w.waiters[i] = w.waiters[last]
				w.waiters[last] = waiter{}
				w.waiters = w.waiters[:last]
				break
			}
		}
		return context.Cause(ctx)
	}
}
