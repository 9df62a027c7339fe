package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// client is one caller. It stays with a member for a while, also with one that does
// not answer: who was with an old leader goes on asking it.
type client struct {
	r      *run
	number int
	rng    *rand.Rand
	member int
	remote concurrency.Store // nil: it has a member in its process
}

func (r *run) newClient() *client {
	r.clients++
	return &client{r: r, number: r.clients, rng: r.cfg.random(streamClients + uint64(r.clients))}
}

// newCaller returns a client that may be a remote one.
func (r *run) newCaller() *client {
	c := r.newClient()
	if r.plan.remote && c.rng.IntN(2) == 0 {
		var err error
		if c.remote, err = r.remotes.dial(); err != nil {
			r.fail("dial: %v", err)
		}
	}
	return c
}

// store is whom the client asks.
func (c *client) store() (s concurrency.Store, id string) {
	if c.remote != nil {
		return c.remote, "remote"
	}
	return c.db()
}

// db is the member that the client is with.
func (c *client) db() (*replkv.DB, string) {
	if c.rng.IntN(20) == 0 {
		c.move()
	}
	for {
		m := c.r.c.At(c.member % c.r.c.Len())
		if db := m.DB(); db != nil {
			return db, m.ID
		}
		c.move()
	}
}

// move goes to another member, to the leader more often than to others.
func (c *client) move() {
	n := c.r.c.Len()
	c.member = c.rng.IntN(n)
	if c.rng.IntN(3) == 0 {
		for i := range n {
			if db := c.r.c.DB(i); db != nil && db.Status().Role == "leader" {
				c.member = i
			}
		}
	}
}

// do runs an operation and records it.
func (c *client) do(ctx context.Context, op *Op, call func(ctx context.Context, db concurrency.Store) error) error {
	db, id := c.store()
	op.Client, op.Member = c.number, id
	ctx, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	c.r.hist.begin(op)
	err := call(ctx, db)
	c.r.hist.end(op, err)
	c.named(ctx, op.Kind, err)
	if err != nil && !told(err) {
		if c.rng.IntN(2) == 0 {
			c.move()
		}
		if op.Outcome == replkv.OutcomeUnknown && !errors.Is(err, replkv.ErrOutcomeUnknown) && op.Writes() {
			c.r.fail("an unknown outcome that does not say so: %v", op)
		}
	}
	return err
}

// named demands that a remote client is told what it can act upon: that a member has
// stopped, not what has stopped it. A member in the same process tells both.
func (c *client) named(ctx context.Context, what string, err error) {
	if err == nil || c.remote == nil || ctx.Err() != nil || err == errPoor {
		return
	}
	cause := err
	if e, ok := errors.AsType[*replkv.Error](err); ok {
		cause = e.Err // what became of a write is no name
	}
	for _, name := range names {
		if errors.Is(cause, name) {
			return
		}
	}
	c.r.fail("an unclassified error to remote client %d: %s: %v", c.number, what, err)
}

// names are of the errors that a remote client may be told while its ctx has not ended.
var names = []error{
	replkv.ErrNotFound, replkv.ErrConflict, replkv.ErrLeaseNotFound, replkv.ErrCompacted, replkv.ErrFutureRevision, replkv.ErrTxnTooOld,
	replkv.ErrNoLeader, replkv.ErrClosed, replkv.ErrOverloaded, replkv.ErrOutcomeUnknown, replkv.ErrSessionNotFound,
	replkv.ErrRemoved, replkv.ErrStaleIdentity, context.DeadlineExceeded, // of the server's ctx, which may end first
}

// told says whether an error is an answer of the store about its data.
func told(err error) bool {
	return errors.Is(err, replkv.ErrConflict) || errors.Is(err, replkv.ErrNotFound) || errors.Is(err, replkv.ErrLeaseNotFound) || errors.Is(err, replkv.ErrCompacted)
}

// patience is how long the client waits for an answer.
func (c *client) patience() time.Duration {
	if c.rng.IntN(4) == 0 {
		return time.Duration(1+c.rng.Int64N(int64(4*c.r.plan.delay/time.Millisecond)+10)) * time.Millisecond // often too little
	}
	return time.Duration(100+c.rng.IntN(8000)) * time.Millisecond
}

// rest is the pause between operations: without one virtual time would stand still.
func (c *client) rest(ctx context.Context) {
	pause(ctx, time.Millisecond+time.Duration(c.rng.Int64N(int64(c.r.plan.pause))))
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
