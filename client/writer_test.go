package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// The server does the write and dies before it answers.
func TestALostAnswer(t *testing.T) {
	c, a, b, stopA := two(t)
	a.After = func(ctx context.Context, _ string) error {
		go stopA()
		<-ctx.Done()
		return nil
	}
	rev, err := c.Set(t.Context(), "k", nil)
	if err != nil || rev != 2 || a.Calls("Set") != 1 || b.Calls("Write") != 1 || b.Calls("Set") != 0 {
		t.Errorf("%d, %v; a has done %d, b %d of %d", rev, err, a.Calls("Set"), b.Calls("Set"), b.Calls("Write"))
	}
}

// The server dies with the write in its hands, and has not done it.
func TestAWriteInDoubtIsSentAgain(t *testing.T) {
	c, a, b, stopA := two(t)
	a.Before = func(ctx context.Context, op string) error {
		if op == "Write" {
			go stopA()
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	rev, err := c.Set(t.Context(), "k", nil)
	if err != nil || rev != 2 || a.Calls("Set") != 0 || b.Calls("Set") != 1 {
		t.Errorf("%d, %v; a has done %d, b %d", rev, err, a.Calls("Set"), b.Calls("Set"))
	}
}

// A refusal after a doubt says nothing of the doubt: the client asks on.
func TestARefusalDoesNotEndADoubt(t *testing.T) {
	c, f := one(t, Config{})
	answers := []error{nil, &kv.Error{Err: kv.ErrNoLeader}, &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrOverloaded},
		&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrNoLeader}, nil}
	f.Before = func(context.Context, string) error { a := answers[0]; answers = answers[1:]; return a }
	if rev, err := c.Set(t.Context(), "k", nil); err != nil || rev != 2 || f.Calls("Set") != 1 || f.Calls("Write") != 4 {
		t.Errorf("%d, %v; %d calls", rev, err, f.Calls("Write"))
	}
	answers = []error{&kv.Error{Err: kv.ErrNoLeader}, &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrTooLarge}}
	if _, err := c.Set(t.Context(), "k", nil); !errors.Is(err, kv.ErrTooLarge) || kv.OutcomeOf(err) != kv.OutcomeUnknown {
		t.Errorf("a final refusal after a doubt: %v (%v)", err, kv.OutcomeOf(err))
	}
}

func TestAnEvictedSession(t *testing.T) {
	c, f := one(t, Config{})
	for range 3 {
		if _, err := c.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		f.Sessions.Evict()
	}
	if it, err := c.Get(t.Context(), "k"); err != nil || it.Version != 3 || f.Sessions.Opened() != 3 {
		t.Errorf("%+v, %v; %d sessions", it, err, f.Sessions.Opened())
	}
}

// The session is evicted between an attempt in doubt, which did it, and the next.
func TestAnEvictedSessionLeavesTheDoubt(t *testing.T) {
	c, a, b, _ := two(t)
	a.After = func(context.Context, string) error {
		a.Sessions.Evict()
		return &kv.Error{Err: kv.ErrNoLeader}
	}
	_, err := c.Set(t.Context(), "k", nil)
	if !errors.Is(err, kv.ErrOutcomeUnknown) || !errors.Is(err, kv.ErrSessionNotFound) || a.Calls("Set") != 1 || b.Calls("Set") != 0 {
		t.Errorf("%v (%v); a has done %d, b %d", err, kv.OutcomeOf(err), a.Calls("Set"), b.Calls("Set"))
	}
	a.After = nil
	if _, err := c.Set(t.Context(), "k", nil); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

// gate holds back batches.
type gate struct {
	arrived chan struct{} // one for each batch that waits
	open    chan struct{} // lets one through, or all once closed
	ended   chan struct{} // one for each whose ctx ended
}

func newGate(f *kvtest.Fake) *gate {
	g := &gate{make(chan struct{}, 1000), make(chan struct{}), make(chan struct{}, 1000)}
	f.Before = func(ctx context.Context, op string) error {
		if op != "Write" {
			return nil
		}
		g.arrived <- struct{}{}
		select {
		case <-g.open:
			return nil
		case <-ctx.Done():
			g.ended <- struct{}{}
			return ctx.Err()
		}
	}
	return g
}

// fill has all senders wait at the gate; the result waits for them.
func (g *gate) fill(t *testing.T, c *Client) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range batchesInFlight {
		wg.Go(func() {
			if _, err := c.Set(t.Context(), fmt.Sprint("filler", i), nil); err != nil {
				t.Error(err)
			}
		})
		<-g.arrived
	}
	return wg.Wait
}

// queued waits until n writes are queued.
func queued(t *testing.T, c *Client, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.writes.mu.Lock()
		have := len(c.writes.queue)
		c.writes.mu.Unlock()
		if have == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d writes are queued, want %d", have, n)
		}
	}
}

func TestConcurrentWritesShareBatches(t *testing.T) {
	c, f := one(t, Config{})
	if _, err := c.Set(t.Context(), "taken", nil); err != nil {
		t.Fatal(err)
	}
	calls := f.Calls("Write")
	g := newGate(f)
	wait := g.fill(t, c)
	const n = 300
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			switch i % 10 {
			case 0:
				if _, err := c.Set(t.Context(), "taken", nil, kv.IfAbsent()); !errors.Is(err, kv.ErrConflict) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
					t.Errorf("a conflict: %v", err)
				}
			case 1:
				if _, err := c.Set(t.Context(), strings.Repeat("x", kvtest.MaxKeyBytes+1), nil); !errors.Is(err, kv.ErrTooLarge) {
					t.Errorf("a key too long: %v", err)
				}
			case 2:
				_, err := c.Set(t.Context(), "", nil)
				if e, ok := errors.AsType[*kv.Error](err); !ok || !errors.Is(err, kv.ErrInvalidArgument) || e.Op != "Set" || e.Outcome != kv.OutcomeNotDone {
					t.Errorf("an empty key: %v", err)
				}
			case 3:
				if res, err := c.Delete(t.Context(), key); err != nil || res.Deleted != 0 {
					t.Errorf("a delete: %+v, %v", res, err)
				}
			default:
				rev, err := c.Set(t.Context(), key, []byte(key))
				if err != nil {
					t.Error(err)
					return
				}
				if it, err := c.Get(t.Context(), key, kv.AtRevision(rev)); err != nil || it.ModRevision != rev || string(it.Value) != key {
					t.Errorf("%s at %d: %+v, %v", key, rev, it, err)
				}
			}
		})
	}
	queued(t, c, n)
	close(g.open)
	wg.Wait()
	wait()
	if rpcs := f.Calls("Write") - calls; rpcs > batchesInFlight+2 {
		t.Errorf("%d RPCs for %d writes", rpcs, n)
	}
	if f.Sessions.Opened() != 1 {
		t.Errorf("%d sessions", f.Sessions.Opened())
	}
}

func TestBatchesAreBounded(t *testing.T) {
	c, f := one(t, Config{})
	g := newGate(f)
	wait := g.fill(t, c)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := c.Set(t.Context(), fmt.Sprint(i), make([]byte, maxBatchBytes/2)); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, c, 8)
	close(g.open)
	wg.Wait()
	wait()
	if rpcs := f.Calls("Write"); rpcs != batchesInFlight+8 {
		t.Errorf("%d RPCs", rpcs)
	}
}

func TestACallerLeaves(t *testing.T) {
	c, f := one(t, Config{})
	g := newGate(f)
	wait := g.fill(t, c)
	set := func(key string) (cancel func(), got chan error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		got = make(chan error, 1)
		go func() { _, err := c.Set(ctx, key, nil); got <- err }()
		return cancel, got
	}
	cancel1, got1 := set("not sent")
	queued(t, c, 1)
	cancel1()
	if err := <-got1; !errors.Is(err, context.Canceled) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("who was not sent: %v (%v)", err, kv.OutcomeOf(err))
	}
	cancel2, got2 := set("sent")
	queued(t, c, 1)
	_, got3 := set("stays")
	queued(t, c, 2)
	g.open <- struct{}{} // a sender takes both
	<-g.arrived
	cancel2()
	if err := <-got2; !errors.Is(err, context.Canceled) || kv.OutcomeOf(err) != kv.OutcomeUnknown {
		t.Errorf("who was sent: %v (%v)", err, kv.OutcomeOf(err))
	}
	cancel4, got4 := set("alone")
	queued(t, c, 1)
	g.open <- struct{}{}
	<-g.arrived
	if len(g.ended) > 0 {
		t.Error("a batch was given up, for which somebody waits")
	}
	cancel4()
	<-got4
	select {
	case <-g.ended:
	case <-time.After(10 * time.Second):
		t.Error("a batch goes on for which nobody waits")
	}
	close(g.open)
	if err := <-got3; err != nil {
		t.Error(err)
	}
	wait()
	for key, want := range map[string]bool{"not sent": false, "sent": true, "stays": true, "alone": false} {
		if _, err := f.Get(t.Context(), key); (err == nil) != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Who leaves before a batch is first sent is not in it.
func TestALeaverIsNotSent(t *testing.T) {
	c := newWorld().client(t, Config{}, "nobody")
	w := &c.writes
	w.session, w.senders = make([]byte, sessionBytes), batchesInFlight // none starts
	var ps []*pendingWrite
	for _, key := range []string{"a", "b"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p := &pendingWrite{op: &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte(key)}}},
			ctx: ctx, until: time.Now().Add(time.Minute), done: make(chan written, 1)}
		if !w.add(p) {
			t.Fatal("closed")
		}
		ps = append(ps, p)
	}
	b, _ := w.next()
	if a := w.leave(ps[0]); a.err.Outcome != kv.OutcomeNotDone {
		t.Errorf("before it was sent: %v", a.err.Outcome)
	}
	if ops := w.seal(b).GetOperations(); len(ops) != 1 || string(ops[0].GetSet().GetKey()) != "b" {
		t.Errorf("sent: %v", ops)
	}
	// In a session that is gone the rest is queued again, without who leaves now.
	w.again(b)
	if len(w.queue) != 1 {
		t.Fatalf("%d writes are queued", len(w.queue))
	}
	b, _ = w.next()
	w.seal(b)
	if a := w.leave(ps[1]); a.err.Outcome != kv.OutcomeUnknown || b.ctx.Err() == nil {
		t.Errorf("after it was sent: %v", a.err.Outcome)
	}
	if w.again(b); len(w.queue) != 0 {
		t.Errorf("%d writes are queued", len(w.queue))
	}
}

// A caller who has little time leaves while the session is opened; the others
// get it.
func TestALeaverDoesNotEndTheOpening(t *testing.T) {
	c, f := one(t, Config{})
	opening, open := make(chan struct{}, 10), make(chan struct{})
	f.Before = func(ctx context.Context, op string) error {
		if op == "OpenSession" {
			opening <- struct{}{}
			select {
			case <-open:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	ctx, leave := context.WithCancel(t.Context())
	got, left := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Set(ctx, "k", nil); left <- err }()
	<-opening
	go func() { _, err := c.Set(t.Context(), "k", nil); got <- err }()
	queued(t, c, 2)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("who left: %v (%v)", err, kv.OutcomeOf(err))
	}
	queued(t, c, 1)
	close(open)
	if err := <-got; err != nil || f.Calls("OpenSession") != 1 {
		t.Errorf("who stayed: %v, %d openings", err, f.Calls("OpenSession"))
	}
}

// Two senders want a session, and to open one takes time, which passes in a bubble,
// too: nobody waits for a mutex.
func TestAnOpeningTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := one(t, Config{})
		f.Before = func(ctx context.Context, op string) error {
			if op == "OpenSession" {
				time.Sleep(time.Second)
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				if _, err := c.Set(t.Context(), fmt.Sprint(i), nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if n := f.Calls("OpenSession"); n != 1 {
			t.Errorf("%d openings", n)
		}
	})
}

// No more than a window of batches is above one that is not answered: the fake
// refuses them.
func TestASlowBatchHoldsTheWindow(t *testing.T) {
	c, f := one(t, Config{})
	slow, release := make(chan struct{}), make(chan struct{})
	var writes atomic.Int32
	f.Before = func(_ context.Context, op string) error {
		if op == "Write" && writes.Add(1) == 1 {
			close(slow)
			<-release
		}
		return nil
	}
	var wg sync.WaitGroup
	set := func(n int) {
		wg.Go(func() {
			for range n {
				if _, err := c.Set(t.Context(), "k", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	set(1)
	<-slow
	set(2 * sessionWindow)
	for end := time.Now().Add(10 * time.Second); c.writes.lockedSeq() != sessionWindow; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("batch %d is the newest", c.writes.lockedSeq())
		}
	}
	queued(t, c, 1) // for good: the other senders have ended
	close(release)
	wg.Wait()
	if it, err := f.Get(t.Context(), "k"); err != nil || it.Version != 2*sessionWindow+1 {
		t.Errorf("%+v, %v", it, err)
	}
}

func (w *writer) lockedSeq() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq
}

// Metadata travels with the write of the caller who set it, and with no other.
func TestMetadataIsForOneWrite(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{} // key: user
	all := make(chan struct{})  // closed when all callers wait for a session
	w, f := newWorld(), kvtest.NewFake()
	w.serve(t, "a", f, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		<-all
		user := strings.Join(metadata.ValueFromIncomingContext(ctx, "user"), ",")
		if user == "nobody" {
			return nil, status.Error(codes.PermissionDenied, "no")
		}
		if req, ok := req.(*replkvv1.WriteRequest); ok {
			mu.Lock()
			for _, op := range req.GetOperations() {
				seen[string(op.GetSet().GetKey())] = user
			}
			mu.Unlock()
		}
		return next(ctx, req)
	}))
	c := w.client(t, Config{}, "a")
	as := func(user string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), "user", user) }
	// Whoever may not open a session does not stop the others.
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%2 == 0 {
				if _, err := c.Set(as("nobody"), "denied", nil); status.Code(errors.Unwrap(err)) != codes.PermissionDenied {
					t.Errorf("nobody: %v", err)
				}
			} else if _, err := c.Set(t.Context(), "early", nil); err != nil {
				t.Error(err)
			}
		})
		queued(t, c, i+1) // the first is nobody
	}
	close(all)
	wg.Wait()
	g := newGate(f)
	wait := g.fill(t, c)
	for i := range 20 {
		wg.Go(func() {
			ctx, key := t.Context(), ""
			if i%2 == 0 {
				key = fmt.Sprint("user", i)
				ctx = as(key)
			}
			if _, err := c.Set(ctx, fmt.Sprint(i, key), nil); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, c, 20)
	close(g.open)
	wg.Wait()
	wait()
	for i := range 20 {
		want := ""
		if i%2 == 0 {
			want = fmt.Sprint("user", i)
		}
		if got, ok := seen[fmt.Sprint(i, want)]; !ok || got != want {
			t.Errorf("write %d was that of %q", i, got)
		}
	}
}

// The values of the caller's ctx reach interceptors.
func TestValuesOfTheCaller(t *testing.T) {
	type traceKey struct{}
	var traces []any
	c, _ := one(t, Config{DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			traces = append(traces, ctx.Value(traceKey{}))
			return next(ctx, method, req, reply, cc, opts...)
		})}})
	if _, err := c.Set(context.WithValue(t.Context(), traceKey{}, "mine"), "k", nil); err != nil || fmt.Sprint(traces) != "[mine mine]" {
		t.Errorf("%v, %v", traces, err)
	}
}

func TestCloseFreesAll(t *testing.T) {
	c, f := one(t, Config{})
	g := newGate(f)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := c.Set(t.Context(), fmt.Sprint(i), nil)
			if !errors.Is(err, kv.ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
	<-g.arrived
	for range 8 { // writes that come while it closes
		wg.Go(func() {
			for {
				if _, err := c.Set(t.Context(), "k", nil); err != nil {
					if !errors.Is(err, kv.ErrClosed) {
						t.Errorf("got %v", err)
					}
					return
				}
			}
		})
	}
	c.Close()
	wg.Wait()
	if c.writes.senders != 0 || len(c.writes.queue) != 0 {
		t.Errorf("%d senders, %d writes are left", c.writes.senders, len(c.writes.queue))
	}
	buf := make([]byte, 1<<20)
	if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "(*writer)") {
		t.Errorf("goroutines are left:\n%s", stacks)
	}
}

// Close while a session is opened.
func TestCloseWhileOpening(t *testing.T) {
	c, f := one(t, Config{})
	began := make(chan struct{}, 1)
	f.Before = func(ctx context.Context, op string) error { began <- struct{}{}; <-ctx.Done(); return ctx.Err() }
	got := make(chan error, 1)
	go func() { _, err := c.Set(t.Context(), "k", nil); got <- err }()
	<-began
	c.Close()
	if err := <-got; !errors.Is(err, kv.ErrClosed) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("got %v (%v)", err, kv.OutcomeOf(err))
	}
}

// What no server of this module answers.
func TestSenselessAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		session *replkvv1.OpenSessionResponse
		write   *replkvv1.WriteResponse
		want    kv.Outcome
	}{
		"no session":       {&replkvv1.OpenSessionResponse{}, nil, kv.OutcomeNotDone},
		"a short session":  {&replkvv1.OpenSessionResponse{Session: []byte("short")}, nil, kv.OutcomeNotDone},
		"no results":       {nil, &replkvv1.WriteResponse{}, kv.OutcomeUnknown},
		"too many results": {nil, &replkvv1.WriteResponse{Results: make([]*replkvv1.WriteResult, 2)}, kv.OutcomeUnknown},
		"a broken error":   {nil, &replkvv1.WriteResponse{Results: []*replkvv1.WriteResult{{Error: []byte{0xff}}}}, kv.OutcomeUnknown},
		"an OK error":      {nil, &replkvv1.WriteResponse{Results: []*replkvv1.WriteResult{{Error: []byte{0x12, 1, 'x'}}}}, kv.OutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.serve(t, "a", kvtest.NewFake(), grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				switch req.(type) {
				case *replkvv1.OpenSessionRequest:
					if test.session != nil {
						return test.session, nil
					}
				case *replkvv1.WriteRequest:
					return test.write, nil
				}
				return next(ctx, req)
			}))
			_, err := w.client(t, Config{}, "a").Set(t.Context(), "k", nil)
			if !errors.Is(err, kv.ErrCorrupt) || kv.OutcomeOf(err) != test.want {
				t.Errorf("got %v (%v)", err, kv.OutcomeOf(err))
			}
		})
	}
}

// Many callers over two servers, one of which loses half of its answers: all is
// done once.
func TestExactlyOnce(t *testing.T) {
	w, f := newWorld(), kvtest.NewFake()
	var mu sync.Mutex
	n := 0
	f.After = func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%2 == 0 {
			return &kv.Error{Err: kv.ErrNoLeader}
		}
		return nil
	}
	w.serve(t, "a", f)
	w.serve(t, "b", f)
	c := w.client(t, Config{}, "a", "b")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if _, err := c.Set(t.Context(), "k", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if it, err := f.Get(t.Context(), "k"); err != nil || it.Version != 320 {
		t.Errorf("%+v, %v", it, err)
	}
}
