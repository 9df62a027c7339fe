package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/kv"
)

// effect says what a call does to the store, and so when it may be repeated.
type effect int

const (
	reads    effect = iota // always
	writes                 // only while it is certain that it was not done
	settles                // always: what is so already is no error
	numbered               // always: the session has it done once
)

// do makes a call with a deadline.
func (c *Client) do(ctx context.Context, op string, eff effect, fn call) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	return c.round(ctx, op, eff, fn)
}

// round gives each endpoint one turn, until one answers.
//
// Invariant: what is not numbered and does not settle goes on to the next
// endpoint only while all turns so far are known not to have done it. So the
// outcome of the last one is that of the call. The others go on also in doubt,
// and then stay in doubt unless a later turn did it. The error is that of the last
// turn whose member is not gone.
func (c *Client) round(ctx context.Context, op string, eff effect, fn call) error {
	until, _ := ctx.Deadline()
	return c.turns(ctx, until, op, eff, fn)
}

// turns is round for callers who wait until a deadline that is not that of ctx.
func (c *Client) turns(ctx context.Context, until time.Time, op string, eff effect, fn call) error {
	var last *kv.Error       // what a server said
	doubt := false           // a turn may have done it
	var unreachable []string // who was not reached
	order := c.order()
	for i, n := range order {
		e := c.endpoints[n]
		if c.closed.Load() || ctx.Err() != nil {
			break
		}
		if err := e.connect(ctx, patience(until, len(order)-i)); err != nil {
			unreachable = append(unreachable, e.addr)
			continue
		}
		err := e.try(ctx, fn)
		if err == nil {
			c.current.Store(int64(n))
			return nil
		}
		if last == nil || !gone(err) {
			last = err
		}
		doubt = doubt || err.Outcome != kv.OutcomeNotDone
		if !goesOn(eff, err, doubt) {
			break
		}
	}
	if doubt && last.Outcome == kv.OutcomeNotDone {
		last.Outcome = kv.OutcomeUnknown
	}
	switch {
	case last == nil:
		last = &kv.Error{Outcome: kv.OutcomeNotDone, Err: c.notReached(ctx, unreachable)}
	case gone(last) && len(unreachable) > 0 && !c.closed.Load():
		last = &kv.Error{Outcome: last.Outcome, Err: fmt.Errorf("%w; another says %v", c.notReached(ctx, unreachable), last.Err)}
	}
	return c.callError(ctx, op, eff, last)
}

// goesOn says whether the next endpoint has its turn after an error.
func goesOn(eff effect, err *kv.Error, doubt bool) bool {
	switch {
	case eff == numbered && err.Outcome == kv.OutcomeDone:
		return false
	case unavailable(err):
		return eff != writes || err.Outcome == kv.OutcomeNotDone
	}
	return eff == numbered && doubt && resolvable(err)
}

// order returns the indices of the endpoints: the one that answered last and
// those after it, and at the end those whose last connection failed.
func (c *Client) order() []int {
	n := len(c.endpoints)
	var good, failed []int
	for i := range n {
		j := (int(c.current.Load()) + i) % n
		if c.endpoints[j].failed() {
			failed = append(failed, j)
		} else {
			good = append(good, j)
		}
	}
	return slices.Concat(good, failed)
}

// patience is how long an endpoint may take to connect when n, itself
// included, share the time that is left.
func patience(until time.Time, n int) time.Duration {
	if until.IsZero() {
		return connectPatience
	}
	return min(connectPatience, time.Until(until)/time.Duration(n))
}

// unreachable names the endpoints that are being connected to in vain; nil if
// there is a connection.
func (c *Client) unreachable() []string {
	var out []string
	for _, e := range c.endpoints {
		switch e.conn.GetState() {
		case connectivity.Ready:
			return nil
		case connectivity.Connecting, connectivity.TransientFailure:
			out = append(out, e.addr)
		}
	}
	return out
}

// notReached is the cause of a call that no server saw.
func (c *Client) notReached(ctx context.Context, unreachable []string) error {
	switch {
	case c.closed.Load():
		return kv.ErrClosed
	case len(unreachable) == 0: // ctx had ended before the first turn
		return ended(ctx)
	}
	return fmt.Errorf("%w: %s: %w", kv.ErrNoLeader, strings.Join(unreachable, ", "), errUnreachable)
}

// unavailable says whether another endpoint may do better. It may if this
// member can serve nobody any more.
func unavailable(err *kv.Error) bool {
	return errors.Is(err, kv.ErrNoLeader) || gone(err) || status.Code(err.Err) == codes.Unavailable
}

// gone says whether the member that answered has stopped for good, which is its own
// affair: while another endpoint said something else, or may do so when it is reached,
// the cluster may serve later.
func gone(err *kv.Error) bool {
	return errors.Is(err, kv.ErrClosed) || errors.Is(err, kv.ErrRemoved) || errors.Is(err, kv.ErrStaleIdentity)
}

// ended returns why ctx ended, nil while it has not: what the caller's ctx says
// or, if only RequestTimeout is over, context.DeadlineExceeded.
func ended(ctx context.Context) error {
	if context.Cause(ctx) == errTimeout {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// callError finishes the error of a call: it names the operation, an error of a
// read has nothing unknown about it, and one of an expired call matches
// ctx.Err().
func (c *Client) callError(ctx context.Context, op string, eff effect, e *kv.Error) error {
	if e.Op == "" {
		e.Op = op
	}
	if eff == reads {
		e.Outcome = kv.OutcomeNotDone
	}
	if vague(e) {
		cause := ended(ctx)
		switch {
		case cause != nil && !errors.Is(e.Err, cause):
			e.Err = fmt.Errorf("%w: %w", cause, e.Err)
		case cause == nil && c.closed.Load():
			e.Err = kv.ErrClosed // gRPC calls it canceled
		}
	}
	return e
}

// vague says whether the end of ctx or of the client may be behind the error.
func vague(e *kv.Error) bool {
	if errors.Is(e.Err, kv.ErrNoLeader) || errors.Is(e.Err, kv.ErrClosed) || e.Outcome == kv.OutcomeUnknown ||
		errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(e.Err)
	return code == codes.Unavailable || code == codes.Canceled || code == codes.DeadlineExceeded
}
