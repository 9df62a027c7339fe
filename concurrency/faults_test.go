package concurrency_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
)

// counted counts how often the queue is looked at.
type counted struct {
	concurrency.Store
	views atomic.Int64
}

func (c *counted) View(ctx context.Context, fn func(*kv.ReadTx) error, opts ...kv.ReadOption) error {
	c.views.Add(1)
	return c.Store.View(ctx, fn, opts...)
}

// late is a network that holds transactions back and tells their callers that the
// outcome is unknown. With atOnce it is the answers that are lost.
type late struct {
	concurrency.Store
	atOnce bool

	mu   sync.Mutex // protects the fields below
	next int        // how many are to be held back
	held []kv.Txn
}

func (l *late) hold(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = n
}

func (l *late) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	l.mu.Lock()
	hold := l.next > 0
	if hold {
		l.next--
		l.held = append(l.held, t)
	}
	l.mu.Unlock()
	if !hold {
		return l.Store.Txn(ctx, t)
	}
	if l.atOnce {
		l.Store.Txn(context.Background(), t)
	}
	return kv.TxnResult{}, &kv.Error{Op: "Txn", Outcome: kv.OutcomeUnknown, Err: fmt.Errorf("%w: held back", kv.ErrNoLeader)}
}

// deliver does what was held back.
func (l *late) deliver(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held) == 0 {
		t.Error("nothing was held back")
	}
	for _, txn := range l.held {
		if _, err := l.Store.Txn(t.Context(), txn); err != nil {
			t.Error(err)
		}
	}
	l.held = nil
}

// places says whether a session has one in the queue of "job".
func places(t *testing.T, store kv.KV, s *concurrency.Session) (n int) {
	t.Helper()
	for _, key := range keysOf(t, store, "job") {
		if key == fmt.Sprintf("job/%016x", int64(s.Lease())) {
			n++
		}
	}
	return n
}
