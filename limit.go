package replkv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// limits bounds calls whose ctx has no deadline, by RequestTimeout. Calls that
// begin within a sixty-fourth of it share one context, and so end that much
// late at most: a context and a timer for each call were a tenth of what a Set
// cost its caller.
type limits struct {
	db     *DB
	newest atomic.Pointer[limit]
	mu     sync.Mutex // held while newest is replaced
}

type limit struct {
	ctx    context.Context
	cancel context.CancelFunc // never needed: the timer ends it, or the store
	until  time.Time          // for calls that begin before
}

// limitSlices is how many limits RequestTimeout is cut into.
const limitSlices = 64

// limit returns a context that ends when the store stops, or when a call that
// begins now has taken RequestTimeout, unless ctx has a deadline of its own.
func (db *DB) limit(ctx context.Context) context.Context {
	if _, ok := ctx.Deadline(); ok {
		return db.ctx
	}
	return db.limits.at(time.Now()).ctx
}

func (l *limits) at(now time.Time) *limit {
	if n := l.newest.Load(); n != nil && now.Before(n.until) {
		return n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.newest.Load(); n != nil && now.Before(n.until) {
		return n
	}
	timeout := l.db.cfg.RequestTimeout
	slice := timeout / limitSlices
	n := &limit{until: now.Add(slice)}
	n.ctx, n.cancel = context.WithTimeoutCause(l.db.ctx, timeout+slice, errTimeout)
	l.newest.Store(n)
	return n
}

// ended says why a call ended early, of whose ctx and limit one is done.
func (db *DB) ended(ctx, limit context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case db.ctx.Err() != nil:
		return db.stopped()
	}
	return context.Cause(limit)
}
