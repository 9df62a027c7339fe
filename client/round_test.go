package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// two returns a client of servers a and b, which share their sessions, but no
// data.
func two(t *testing.T) (c *Client, a, b *kvtest.Fake, stopA func()) {
	w := newWorld()
	a, b = kvtest.NewFake(), kvtest.NewFake()
	b.Sessions = a.Sessions
	stopA = w.serve(t, "a", a)
	w.serve(t, "b", b)
	return w.client(t, Config{}, "a", "b"), a, b, stopA
}

func failWith(err error) func(context.Context, string) error {
	return func(context.Context, string) error { return err }
}

// failBut fails all calls but those of op.
func failBut(op string, err error) func(context.Context, string) error {
	return func(_ context.Context, o string) error {
		if o == op {
			return nil
		}
		return err
	}
}

func TestNobodyThere(t *testing.T) {
	c := newWorld().client(t, Config{}, "a", "b")
	_, err := c.Set(t.Context(), "k", nil)
	if !errors.Is(err, kv.ErrNoLeader) || kv.OutcomeOf(err) != kv.OutcomeNotDone ||
		!strings.Contains(err.Error(), "///a") || !strings.Contains(err.Error(), "///b") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnreachableEndpointLosesItsTurn(t *testing.T) {
	for _, first := range []string{"nobody", "hole"} {
		w, f := newWorld(), kvtest.NewFake()
		w.serve(t, "b", f)
		c := w.client(t, Config{}, first, "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if rev, err := c.Set(ctx, "k", nil); err != nil || rev != 2 {
			t.Errorf("%s: %d, %v", first, rev, err)
		}
		if c.current.Load() != 1 {
			t.Errorf("%s: the client does not stay with who answers", first)
		}
		cancel()
	}
}

func TestAStoppedServerHandsOver(t *testing.T) {
	c, a, b, stopA := two(t)
	if _, err := c.Set(t.Context(), "k", nil); err != nil || a.Calls("Set") != 1 {
		t.Fatal(err)
	}
	stopA()
	for range 3 {
		if _, err := c.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Calls("Set"); n != 3 {
		t.Errorf("b has done %d", n)
	}
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

// What the first endpoint answers, and who must have been asked afterwards.
func TestWhatIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		answer          *kv.Error
		writeOn, readOn bool // goes on to b
	}{
		"no leader, not done":    {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrNoLeader}, true, true},
		"no leader, unknown":     {&kv.Error{Err: kv.ErrNoLeader}, true, true},
		"no leader, done":        {&kv.Error{Outcome: kv.OutcomeDone, Err: kv.ErrNoLeader}, false, true},
		"closed, not done":       {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed}, true, true},
		"closed, unknown":        {&kv.Error{Err: kv.ErrClosed}, true, true},
		"unavailable":            {&kv.Error{Outcome: kv.OutcomeNotDone, Err: status.Error(codes.Unavailable, "full")}, true, true},
		"removed":                {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrRemoved}, true, true},
		"stale identity":         {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrStaleIdentity}, true, true},
		"conflict":               {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrConflict}, false, false},
		"overloaded":             {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrOverloaded}, false, false},
		"overloaded, unknown":    {&kv.Error{Err: kv.ErrOverloaded}, true, false},
		"unknown":                {&kv.Error{Err: kv.ErrOutcomeUnknown}, true, false},
		"unknown, done":          {&kv.Error{Outcome: kv.OutcomeDone, Err: kv.ErrResultDropped}, false, false},
		"expired at the server":  {&kv.Error{Err: context.DeadlineExceeded}, true, false},
		"permission, not done":   {&kv.Error{Outcome: kv.OutcomeNotDone, Err: status.Error(codes.PermissionDenied, "no")}, false, false},
		"corrupt":                {&kv.Error{Err: kv.ErrCorrupt}, false, false},
		"the server is no store": {&kv.Error{Outcome: kv.OutcomeNotDone, Err: status.Error(codes.Unimplemented, "what")}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, a, b, _ := two(t)
			a.Before = failBut("OpenSession", test.answer)
			count := map[bool]int{true: 1}
			_, err := c.Set(t.Context(), "k", nil)
			if b.Calls("Set") != count[test.writeOn] || a.Calls("Write") != 1 || a.Calls("Set") != 0 {
				t.Errorf("a write: a was asked %d times, b has done %d: %v", a.Calls("Write"), b.Calls("Set"), err)
			}
			if test.writeOn != (err == nil) || err != nil && kv.OutcomeOf(err) != test.answer.Outcome {
				t.Errorf("a write: %v (%v)", err, kv.OutcomeOf(err))
			}
			c.current.Store(0)
			_, err = c.Revision(t.Context())
			if b.Calls("Revision") != count[test.readOn] || a.Calls("Revision") != 1 || test.readOn != (err == nil) {
				t.Errorf("a read: a was asked %d times, b %d times: %v", a.Calls("Revision"), b.Calls("Revision"), err)
			}
			c.current.Store(0)
			for _, err = range c.Scan(t.Context(), kv.All()) {
				if test.readOn != (err == nil) {
					t.Errorf("a scan: %v", err)
				}
			}
			if b.Calls("Scan") != count[test.readOn] || a.Calls("Scan") != 1 {
				t.Errorf("a scan: a was asked %d times, b %d times", a.Calls("Scan"), b.Calls("Scan"))
			}
		})
	}
}

// Errors that no server of this module made: an interceptor's, a proxy's, gRPC's
// own. They leave a write in doubt; some can be helped by asking again.
func TestWhatIsTriedAgainOfOthers(t *testing.T) {
	for code, on := range map[codes.Code]bool{
		codes.Unavailable: true, codes.Aborted: true, codes.DeadlineExceeded: true, codes.Canceled: true,
		codes.PermissionDenied: false, codes.Unauthenticated: false, codes.Internal: false, codes.Unknown: false, codes.ResourceExhausted: false,
	} {
		t.Run(code.String(), func(t *testing.T) {
			w, a, b := newWorld(), kvtest.NewFake(), kvtest.NewFake()
			b.Sessions = a.Sessions
			// The answer is lost on its way through whatever it is.
			w.serve(t, "a", a, grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				res, err := next(ctx, req)
				if info.FullMethod == replkvv1.KV_Write_FullMethodName {
					return nil, status.Error(code, "lost")
				}
				return res, err
			}))
			w.serve(t, "b", b)
			rev, err := w.client(t, Config{}, "a", "b").Set(t.Context(), "k", nil)
			if on != (err == nil) || on != (rev == 2) || b.Calls("Write") > 0 != on || a.Calls("Set") != 1 || b.Calls("Set") != 0 {
				t.Errorf("%d, %v; b was asked %d times, and has done %d", rev, err, b.Calls("Write"), b.Calls("Set"))
			}
			if !on && (kv.OutcomeOf(err) != kv.OutcomeUnknown || status.Code(errors.Unwrap(err)) != code) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An error of the first endpoint's OpenSession: nothing was done, whatever it
// says.
func TestWhereASessionIsOpened(t *testing.T) {
	for name, test := range map[string]struct {
		answer error
		on     bool
	}{
		"no leader":  {&kv.Error{Err: kv.ErrNoLeader}, true},
		"closed":     {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed}, true},
		"overloaded": {&kv.Error{Err: kv.ErrOverloaded}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, a, b, _ := two(t)
			a.Before = failWith(test.answer)
			_, err := c.Set(t.Context(), "k", nil)
			if test.on != (err == nil) || a.Calls("OpenSession") != 1 || (b.Calls("Set") == 1) != test.on {
				t.Errorf("a was asked %d times, b has done %d: %v", a.Calls("OpenSession"), b.Calls("Set"), err)
			}
			if e, ok := errors.AsType[*kv.Error](err); err != nil && (!ok || e.Op != "Set" || e.Outcome != kv.OutcomeNotDone) {
				t.Errorf("got %#v", err)
			}
		})
	}
}

func TestARestartedServerIsFoundAgain(t *testing.T) {
	w, f := newWorld(), kvtest.NewFake()
	c := w.client(t, Config{}, "a")
	if _, err := c.Revision(t.Context()); !errors.Is(err, kv.ErrNoLeader) {
		t.Fatalf("got %v", err)
	}
	stop := w.serve(t, "a", f)
	if _, err := c.Revision(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	w.serve(t, "a", f)
	if _, err := c.Revision(t.Context()); err != nil {
		// The connection may break only when it is used; the call after that
		// makes a new one.
		if _, err := c.Revision(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestWhoIsGoneDoesNotSpeakForTheCluster: a member that was removed may have the last turn,
// and the others no leader at the moment, or no connection. The call may be repeated then.
func TestWhoIsGoneDoesNotSpeakForTheCluster(t *testing.T) {
	removed := fmt.Errorf("%w: %w", kv.ErrClosed, kv.ErrRemoved)
	again := func(name string, c *Client) {
		t.Helper()
		for range 2 { // whoever has the first turn
			_, err := c.Set(t.Context(), "k", nil)
			if !errors.Is(err, kv.ErrNoLeader) || errors.Is(err, kv.ErrRemoved) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
				t.Errorf("%s: %v, outcome %v", name, err, kv.OutcomeOf(err))
			}
			c.current.Store(1 - c.current.Load())
		}
	}
	c, a, b, stopA := two(t)
	a.Before, b.Before = failWith(kv.ErrNoLeader), failWith(removed)
	again("no leader", c)
	a.Before = failWith(removed)
	if _, err := c.Set(t.Context(), "k", nil); !errors.Is(err, kv.ErrRemoved) {
		t.Errorf("all are gone: %v", err)
	}
	stopA()
	again("not reached", c)
}
