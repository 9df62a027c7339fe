// Package keepalive is the loop that keeps a lease alive, of the embedded handle
// and of the remote client.
package keepalive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/replkv/replkv/kv"
)

// retryPause is between attempts that failed.
const retryPause = 100 * time.Millisecond

// Run calls once at a third of the TTL that it returns, until ctx ends, or it
// fails for good, also as over says unless it is nil. An attempt that fails otherwise
// is made again, and one that takes longer than patience is given up.
func Run(ctx context.Context, patience time.Duration, once func(context.Context) (time.Duration, error), over func(error) bool) error {
	for {
		wait, err := attempt(ctx, patience, once)
		switch {
		case err == nil:
			wait /= 3
		case ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)):
			return &kv.Error{Op: "KeepAlive", Outcome: kv.OutcomeOf(err), Err: fmt.Errorf("%w: %w", context.Cause(ctx), err)}
		case ctx.Err() != nil || final(err) || over != nil && over(err):
			return err
		default:
			wait = retryPause
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return &kv.Error{Op: "KeepAlive", Outcome: kv.OutcomeOf(err), Err: context.Cause(ctx)}
		}
	}
}

func attempt(ctx context.Context, patience time.Duration, once func(context.Context) (time.Duration, error)) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return once(ctx)
}

// final tells the errors after which no other attempt can succeed.
func final(err error) bool {
	for _, e := range []error{kv.ErrLeaseNotFound, kv.ErrInvalidArgument, kv.ErrRemoved, kv.ErrStaleIdentity, kv.ErrWrongCluster} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
