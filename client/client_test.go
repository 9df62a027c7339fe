package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// The client obeys the table that the embedded handle obeys.
func TestClientIsAKV(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.KV {
		c, _ := one(t, Config{})
		return c
	})
}

func TestClientIsALessor(t *testing.T) {
	kvtest.RunLessor(t, func(t *testing.T) kvtest.Leased {
		c, _ := one(t, Config{})
		return c
	})
}

// Close ends KeepAlive, whether it sleeps or asks.
func TestCloseEndsKeepAlive(t *testing.T) {
	for _, asks := range []bool{false, true} {
		c, f := one(t, Config{})
		id, err := c.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan struct{}, 1)
		f.Before = func(ctx context.Context, op string) error {
			if op == "KeepAliveOnce" {
				asked <- struct{}{}
				if asks {
					<-ctx.Done()
				}
			}
			return nil
		}
		ended := make(chan error, 1)
		go func() { ended <- c.KeepAlive(context.Background(), id) }()
		<-asked
		c.Close()
		if err := <-ended; !errors.Is(err, kv.ErrClosed) {
			t.Errorf("asks %v: %v", asks, err)
		}
	}
}

var sentinels = []error{kv.ErrNotFound, kv.ErrClosed, kv.ErrNoLeader, kv.ErrOverloaded, kv.ErrOutcomeUnknown, kv.ErrCompacted,
	kv.ErrFutureRevision, kv.ErrTooLarge, kv.ErrInvalidArgument, kv.ErrInvalidConfig, kv.ErrConflict, kv.ErrLeaseNotFound, kv.ErrQuota,
	kv.ErrRemoved, kv.ErrWrongCluster, kv.ErrFormatTooNew, kv.ErrDirLocked, kv.ErrCorrupt, kv.ErrAlreadyRegistered, kv.ErrResultDropped, kv.ErrTxnTooOld,
	kv.ErrMemberNotFound, kv.ErrUnsafeChange, kv.ErrStaleIdentity}

// resolving are those of a write in doubt that is sent again, so they arrive when
// the call expires.
var resolving = []error{kv.ErrClosed, kv.ErrNoLeader, kv.ErrOverloaded, kv.ErrOutcomeUnknown, kv.ErrRemoved, kv.ErrStaleIdentity}

func TestEverySentinelArrives(t *testing.T) {
	synctest.Test(t, everySentinelArrives) // else a slow machine has no answer before the deadline
}

func everySentinelArrives(t *testing.T) {
	c, f := one(t, Config{})
	var sent *kv.Error
	f.Before = func(_ context.Context, op string) error {
		if op == "OpenSession" {
			return nil
		}
		return sent
	}
	check := func(op string, err error, outcome kv.Outcome) {
		t.Helper()
		e, ok := errors.AsType[*kv.Error](err)
		if !ok || !errors.Is(err, sent.Err) || e.Op != op || e.Outcome != outcome || e.LeaderID != "n2" || e.LeaderAddr != "h:2" {
			t.Errorf("%s: sent %v (%v), got %v (%v)", op, sent, sent.Outcome, err, kv.OutcomeOf(err))
		}
		if outcome != kv.OutcomeUnknown && sent.Err != kv.ErrOutcomeUnknown && errors.Is(err, kv.ErrOutcomeUnknown) {
			t.Errorf("%s: %v matches ErrOutcomeUnknown", op, err)
		}
	}
	for _, sentinel := range sentinels {
		for _, outcome := range []kv.Outcome{kv.OutcomeUnknown, kv.OutcomeNotDone, kv.OutcomeDone} {
			sent = &kv.Error{Outcome: outcome, LeaderID: "n2", LeaderAddr: "h:2", Err: sentinel}
			ctx := t.Context()
			write := func(op string, fn func(context.Context) error) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				expires := outcome == kv.OutcomeUnknown && slices.Contains(resolving, sentinel)
				if expires {
					ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
					defer cancel()
				}
				err := fn(ctx)
				check(op, err, outcome)
				if errors.Is(err, context.DeadlineExceeded) != expires {
					t.Errorf("%s: sent %v, got %v", op, sent, err)
				}
			}
			write("Set", func(ctx context.Context) error { _, err := c.Set(ctx, "k", nil); return err })
			write("Delete", func(ctx context.Context) error { _, err := c.Delete(ctx, "k"); return err })
			write("DeleteRange", func(ctx context.Context) error { _, err := c.DeleteRange(ctx, kv.All()); return err })
			_, err := c.Promote(ctx, "m")
			check("Promote", err, outcome)
			_, err = c.Members(ctx)
			check("Members", err, kv.OutcomeNotDone)
			_, err = c.Get(ctx, "k") // a read has no outcome to doubt
			check("Get", err, kv.OutcomeNotDone)
			_, err = c.Revision(ctx)
			check("Revision", err, kv.OutcomeNotDone)
			for _, err = range c.Scan(ctx, kv.All()) {
				check("Scan", err, kv.OutcomeNotDone)
			}
		}
	}
}

func TestCompactedErrorArrives(t *testing.T) {
	c, f := one(t, Config{})
	for range 5 {
		if _, err := c.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Compact(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(t.Context(), "k", kv.AtRevision(2))
	if e, ok := errors.AsType[*kv.CompactedError](err); !ok || e.Revision != 2 || e.Compacted != 4 {
		t.Errorf("got %v", err)
	}
}

func TestDeletedButTooLargeToReturn(t *testing.T) {
	c, _ := one(t, Config{})
	for i := range 3 {
		if _, err := c.Set(t.Context(), fmt.Sprint(i), make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.DeleteRange(t.Context(), kv.All(), kv.ReturnPrev())
	if !errors.Is(err, kv.ErrResultDropped) || kv.OutcomeOf(err) != kv.OutcomeDone {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	c, f := one(t, Config{})
	began, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	f.Before = func(_ context.Context, op string) error {
		if op == "Write" {
			close(began)
			<-release
		}
		return nil
	}
	got := make(chan error, 1)
	go func() { _, err := c.Set(t.Context(), "k", nil); got <- err }()
	<-began
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-got; !errors.Is(err, kv.ErrClosed) || kv.OutcomeOf(err) != kv.OutcomeUnknown || errors.Is(err, context.Canceled) {
		t.Errorf("a write under way: %v", err)
	}
	_, err := c.Set(t.Context(), "k", nil)
	if !errors.Is(err, kv.ErrClosed) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("a write after Close: %v", err)
	}
	for _, err := range c.Scan(t.Context(), kv.All()) {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("a scan after Close: %v", err)
		}
	}
}

// A server without the service did nothing.
func TestServiceNotMounted(t *testing.T) {
	w := newWorld()
	w.serve(t, "a", nil)
	_, err := w.client(t, Config{}, "a").Set(t.Context(), "k", nil)
	if kv.OutcomeOf(err) != kv.OutcomeNotDone || errors.Is(err, kv.ErrNoLeader) {
		t.Errorf("got %v", err)
	}
}
