package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replkv/replkv/kv"
)

func hang(ctx context.Context, op string) error {
	if op == "OpenSession" {
		return nil
	}
	<-ctx.Done()
	return &kv.Error{Err: ctx.Err()}
}

// wantExpired checks the error of a call that was sent and not answered.
func wantExpired(t *testing.T, err, ctxErr error, write bool) {
	t.Helper()
	if !errors.Is(err, ctxErr) || errors.Is(err, kv.ErrOutcomeUnknown) != write {
		t.Errorf("got %v (%v), want %v", err, kv.OutcomeOf(err), ctxErr)
	}
}

func TestDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		ctx     func(context.Context) (context.Context, context.CancelFunc)
		want    error
	}{
		"the caller's": {0, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, context.DeadlineExceeded},
		"a cause": {0, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, 50*time.Millisecond, errors.New("mine"))
		}, context.DeadlineExceeded},
		"cancelled": {0, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"the default": {50 * time.Millisecond, context.WithCancel, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := one(t, Config{RequestTimeout: test.timeout})
			f.Before = hang
			call := func(write bool, fn func(context.Context) error) {
				t.Helper()
				ctx, cancel := test.ctx(t.Context())
				defer cancel()
				wantExpired(t, fn(ctx), test.want, write)
			}
			call(true, func(ctx context.Context) error { _, err := c.Set(ctx, "k", nil); return err })
			call(true, func(ctx context.Context) error { _, err := c.Delete(ctx, "k"); return err })
			call(true, func(ctx context.Context) error { _, err := c.DeleteRange(ctx, kv.All()); return err })
			call(false, func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err })
			call(false, func(ctx context.Context) error { _, err := c.Revision(ctx); return err })
			call(false, func(ctx context.Context) (err error) {
				for _, err = range c.Scan(ctx, kv.All()) {
				}
				return err
			})
		})
	}
}

// A call that expires before a connection came about did nothing.
func TestDeadlineBeforeAConnection(t *testing.T) {
	c := newWorld().client(t, Config{RequestTimeout: 50 * time.Millisecond}, "hole", "hole")
	_, err := c.Set(t.Context(), "k", nil)
	if !errors.Is(err, kv.ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("got %v (%v)", err, kv.OutcomeOf(err))
	}
}

// A write that expires while its session is opened was not sent.
func TestDeadlineBeforeASession(t *testing.T) {
	c, f := one(t, Config{})
	f.Before = func(ctx context.Context, _ string) error { <-ctx.Done(); return &kv.Error{Err: ctx.Err()} }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Set(ctx, "k", nil)
	if !errors.Is(err, context.DeadlineExceeded) || kv.OutcomeOf(err) != kv.OutcomeNotDone || f.Calls("Write") != 0 {
		t.Errorf("got %v (%v)", err, kv.OutcomeOf(err))
	}
}

// The server says no leader when its own wait is over, just as ctx ends.
func TestNoLeaderUntilTheDeadline(t *testing.T) {
	c, f := one(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	f.Before = func(context.Context, string) error {
		cancel()
		return &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrNoLeader}
	}
	if _, err := c.Set(ctx, "k", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
