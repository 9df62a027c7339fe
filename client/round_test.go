package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// two returns a client of servers a and b, which share no data.
func two(t *testing.T) (c *Client, a, b *kvtest.Fake, stopA func()) {
	w := newWorld()
	a, b = kvtest.NewFake(), kvtest.NewFake()
	stopA = w.serve(t, "a", a)
	w.serve(t, "b", b)
	return w.client(t, Config{}, "a", "b"), a, b, stopA
}

func failWith(err error) func(context.Context, string) error {
	return func(context.Context, string) error { return err }
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
		// gRPC may not have noticed yet: then the outcome may be unknown.
		if _, err := c.Set(t.Context(), "k", nil); err != nil && kv.OutcomeOf(err) != kv.OutcomeUnknown {
			t.Fatal(err)
		}
	}
	if b.Calls("Set") == 0 {
		t.Error("b was not asked")
	}
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

// What the first endpoint answers, and who must have been asked afterwards.
func TestWhatIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		answer          error
		writeOn, readOn bool // goes on to b
	}{
		"no leader, not done": {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrNoLeader}, true, true},
		"no leader, unknown":  {&kv.Error{Err: kv.ErrNoLeader}, false, true},
		"no leader, done":     {&kv.Error{Outcome: kv.OutcomeDone, Err: kv.ErrNoLeader}, false, true},
		"closed, not done":    {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed}, true, true},
		"closed, unknown":     {&kv.Error{Err: kv.ErrClosed}, false, true},
		"unavailable":         {&kv.Error{Outcome: kv.OutcomeNotDone, Err: status.Error(codes.Unavailable, "full")}, true, true},
		"conflict":            {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrConflict}, false, false},
		"overloaded":          {&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrOverloaded}, false, false},
		"unknown":             {&kv.Error{Err: kv.ErrOutcomeUnknown}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, a, b, _ := two(t)
			a.Before = failWith(test.answer)
			count := map[bool]int{true: 1}
			_, err := c.Set(t.Context(), "k", nil)
			if b.Calls("Set") != count[test.writeOn] || a.Calls("Set") != 1 {
				t.Errorf("a write: a was asked %d times, b %d times: %v", a.Calls("Set"), b.Calls("Set"), err)
			}
			if test.writeOn != (err == nil) {
				t.Errorf("a write: %v", err)
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

// The server dies with the write in its hands.
func TestAWriteInDoubtIsNotSentAgain(t *testing.T) {
	c, a, b, stopA := two(t)
	began := make(chan struct{}, 1)
	a.Before = func(ctx context.Context, _ string) error {
		began <- struct{}{}
		<-ctx.Done()
		return nil // done, and nobody will hear of it
	}
	got := make(chan error, 1)
	go func() { _, err := c.Set(t.Context(), "k", nil); got <- err }()
	<-began
	stopA()
	err := <-got
	if kv.OutcomeOf(err) != kv.OutcomeUnknown || !errors.Is(err, kv.ErrOutcomeUnknown) || b.Calls("Set") != 0 {
		t.Errorf("%v; b was asked %d times", err, b.Calls("Set"))
	}
	if e, ok := errors.AsType[*kv.Error](err); !ok || e.Op != "Set" {
		t.Errorf("got %#v", err)
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
