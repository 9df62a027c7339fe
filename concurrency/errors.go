package concurrency

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/replkv/replkv/kv"
)

// Errors besides those of package kv; test with errors.Is. Calls return them
// wrapped in *kv.Error.
var (
	// ErrSessionEnded: the session was closed, its ctx has ended, or its lease is
	// gone or may be. Nothing can be done with it any more: make another.
	ErrSessionEnded = errors.New("session has ended")
	// ErrLocked: another session holds the lock, or waits for it.
	ErrLocked = errors.New("locked by another session")
	// ErrHeld: this session has the lock, or leads, or is waiting to.
	ErrHeld = errors.New("held, or waited for, by this session already")
	// ErrNotHeld: the lock is not held, or nobody was elected. Also after its key was
	// deleted by somebody else.
	ErrNotHeld = errors.New("not held")
)

// errDeleted: the key of a place is gone. Session.reason finds out why.
var errDeleted = fmt.Errorf("%w: the key was deleted", ErrNotHeld)

// retryPause is between attempts that failed for now.
const retryPause = 100 * time.Millisecond

// failed is the error of a call with outcome o. Of an error of the store it keeps
// the cause and who leads: what became of one of its writes is not what became of
// the call.
func failed(op string, o kv.Outcome, err error) error {
	out := &kv.Error{Op: op, Outcome: o, Err: err}
	if e, ok := err.(*kv.Error); ok {
		out.Err, out.LeaderID, out.LeaderAddr = e.Err, e.LeaderID, e.LeaderAddr
	}
	return out
}

// passes says whether the same may succeed later, while the caller's ctx has not
// ended: a deadline here is the call's own, by RequestTimeout.
func passes(err error) bool {
	if errors.Is(err, kv.ErrClosed) {
		return false
	}
	for _, e := range []error{kv.ErrNoLeader, kv.ErrOverloaded, kv.ErrOutcomeUnknown, kv.ErrCompacted, kv.ErrTxnTooOld, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait returns early if ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: the name is empty", kv.ErrInvalidArgument)
	}
	return nil
}
