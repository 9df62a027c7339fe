package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// breaking is a server option by which each stream breaks at its message of that
// number; 0: never.
func breaking(at *atomic.Int64) grpc.ServerOption {
	return grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		return h(srv, &breakingStream{ServerStream: s, left: at.Load()})
	})
}

type breakingStream struct {
	grpc.ServerStream
	left int64
}

func (s *breakingStream) SendMsg(m any) error {
	if s.left--; s.left == 0 {
		return status.Error(codes.Unavailable, "the stream breaks")
	}
	return s.ServerStream.SendMsg(m)
}

// members returns a client of two servers of one store, whose streams break.
func members(t *testing.T, cfg Config) (*Client, *kvtest.Fake, *atomic.Int64) {
	t.Helper()
	w, f, after := newWorld(), kvtest.NewFake(), &atomic.Int64{}
	w.serve(t, "a", f, breaking(after))
	w.serve(t, "b", f, breaking(after))
	return w.client(t, cfg, "a", "b"), f, after
}

// A stream that breaks anywhere, also within a change that takes several
// messages, goes on elsewhere: no gap, nothing twice, no change in halves.
func TestAWatchGoesOnElsewhere(t *testing.T) {
	for _, test := range []struct {
		at    int64       // the message that is lost; the first has no change
		after kv.Revision // a stream must hold a whole change, and the removal takes three messages
	}{{3, 5}, {4, 5}, {5, 1}, {6, 1}, {7, 1}} {
		t.Run(fmt.Sprintf("each stream breaks at message %d", test.at), func(t *testing.T) {
			c, f, breaks := members(t, Config{})
			fill(t, f, 3) // values of a MiB
			if _, err := f.DeleteRange(t.Context(), kv.All()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := f.Set(t.Context(), "k", []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
			breaks.Store(test.at)
			next := test.after + 1
			for c, err := range c.Watch(t.Context(), kv.All(), kv.AfterRevision(test.after), kv.WithPrevious()) {
				if err != nil {
					t.Fatal(err)
				}
				if c.Revision != next || c.Revision == 5 && (len(c.Events) != 3 || len(c.Events[2].Prev.Value) != 1<<20) {
					t.Fatalf("got revision %d with %d events, want %d", c.Revision, len(c.Events), next)
				}
				if next++; next == 9 {
					break
				}
			}
			if f.Calls("Watch") < 2 {
				t.Error("no stream broke: the test shows nothing")
			}
		})
	}
}

// Streams that break before they bring anything are not opened for ever.
func TestAWatchWithoutProgressEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), kvtest.NewFake()
		after := &atomic.Int64{}
		after.Store(2)
		stop := w.serve(t, "a", f, breaking(after))
		c := w.client(t, Config{RequestTimeout: time.Second}, "a")
		if _, err := f.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range c.Watch(t.Context(), kv.All(), kv.AfterRevision(1)) {
			last = err
		}
		if status.Code(errors.Unwrap(last)) != codes.Unavailable || kv.OutcomeOf(last) != kv.OutcomeNotDone {
			t.Errorf("got %v", last)
		}
		c.Close()
		stop()
	})
}

// heard is a client option that closes a channel at the first message of a stream.
func heard(ch chan struct{}) grpc.DialOption {
	var once sync.Once
	return grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, s grpc.Streamer,
		opts ...grpc.CallOption) (grpc.ClientStream, error) {
		stream, err := s(ctx, d, cc, method, opts...)
		return &hearingStream{stream, func() { once.Do(func() { close(ch) }) }}, err
	})
}

type hearingStream struct {
	grpc.ClientStream
	heard func()
}

func (s *hearingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.heard()
	}
	return err
}

// Without a start, a watch that breaks before its first event goes on from where
// it began, not from where it comes back.
func TestAWatchRemembersWhereItBegan(t *testing.T) {
	w, f := newWorld(), kvtest.NewFake()
	stopA := w.serve(t, "a", f)
	if _, err := f.Set(t.Context(), "k", []byte("before")); err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	c := w.client(t, Config{DialOptions: []grpc.DialOption{heard(began)}}, "a", "b")
	go func() {
		<-began
		stopA()
		if _, err := f.Set(context.Background(), "k", []byte("meanwhile")); err != nil {
			t.Error(err)
		}
		w.serve(t, "b", f)
	}()
	for c, err := range c.Watch(t.Context(), kv.All()) {
		if err != nil || string(c.Events[0].Item.Value) != "meanwhile" {
			t.Errorf("got %+v, %v", c, err)
		}
		break
	}
}

// A server that says nothing any more is left; a watch of which there is nothing
// to tell is not.
func TestASilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := newWorld(), kvtest.NewFake(), kvtest.NewFake()
		stopA, stopB := w.serve(t, "a", a), w.serve(t, "b", b)
		c := w.client(t, Config{RequestTimeout: 4 * time.Second}, "a", "b")
		for _, f := range []*kvtest.Fake{a, b} {
			if _, err := f.Set(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		hang := make(chan struct{})
		a.Between = func(ctx context.Context, n int) error {
			select {
			case <-hang:
				<-ctx.Done()
				return ctx.Err()
			default:
				return nil
			}
		}
		went := make(chan time.Time, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			var last error
			for c, err := range c.Watch(ctx, kv.All(), kv.AfterRevision(2)) {
				if last = err; err == nil {
					if c.Revision != 3 {
						t.Errorf("got %+v", c)
					}
					went <- time.Now()
				}
			}
			done <- last
		}()
		time.Sleep(time.Minute)
		if a.Calls("Watch") != 1 || b.Calls("Watch") != 0 {
			t.Errorf("%d and %d streams although all is well", a.Calls("Watch"), b.Calls("Watch"))
		}
		close(hang)
		began := time.Now()
		if _, err := b.Set(t.Context(), "k", []byte("w")); err != nil {
			t.Fatal(err)
		}
		if d := (<-went).Sub(began); d > 9*time.Second {
			t.Errorf("the other took over after %v", d)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		c.Close()
		stopA()
		stopB()
	})
}

// When nobody takes over, the watch ends, after RequestTimeout and no sooner.
func TestAWatchThatNobodyServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), kvtest.NewFake()
		stop := w.serve(t, "a", f)
		c := w.client(t, Config{RequestTimeout: 3 * time.Second}, "a", "b")
		if _, err := f.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		var began time.Time
		var last error
		for c, err := range c.Watch(t.Context(), kv.All(), kv.AfterRevision(1)) {
			if last = err; err == nil && c.Revision == 2 {
				began = time.Now()
				stop()
			}
		}
		if e, ok := errors.AsType[*kv.Error](last); !ok || !errors.Is(last, kv.ErrNoLeader) || e.Op != "Watch" || e.Outcome != kv.OutcomeNotDone {
			t.Errorf("got %v", last)
		}
		if d := time.Since(began); d < 2*time.Second || d > 10*time.Second {
			t.Errorf("after %v", d)
		}
		c.Close()
	})
}

// An error that no other endpoint would cure is the last pair.
func TestAWatchEndsWithItsError(t *testing.T) {
	c, f, breaks := members(t, Config{})
	for range 9 {
		if _, err := f.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	breaks.Store(4) // then history is compacted before the watch goes on
	var last error
	n := 0
	for _, err := range c.Watch(t.Context(), kv.All(), kv.AfterRevision(1)) {
		if last = err; err == nil {
			if n++; n == 2 {
				if err := f.Compact(t.Context(), 8); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if gone, ok := errors.AsType[*kv.CompactedError](last); !ok || gone.Compacted != 8 || gone.Revision != 4 || n != 2 {
		t.Errorf("after %d changes: %v", n, last)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	breaks.Store(0)
	for _, err := range c.Watch(ctx, kv.All(), kv.AfterRevision(8)) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
	for _, err := range c.Watch(t.Context(), kv.All(), kv.AfterRevision(8)) {
		last = err
		c.Close()
	}
	if !errors.Is(last, kv.ErrClosed) {
		t.Errorf("after Close: %v", last)
	}
}

// A break out of the loop frees the server's.
func TestABreakFreesTheWatch(t *testing.T) {
	c, f := one(t, Config{})
	left := make(chan struct{})
	f.Between = func(ctx context.Context, n int) error {
		if n == 1 {
			<-ctx.Done()
			close(left)
		}
		return nil
	}
	for range 2 {
		if _, err := f.Set(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	for range c.Watch(t.Context(), kv.All(), kv.AfterRevision(1)) {
		break
	}
	<-left
}

// WatchSnapshot converges though the history it follows is compacted again and
// again, and streams break.
func TestWatchSnapshotConverges(t *testing.T) {
	c, f, breaks := members(t, Config{})
	breaks.Store(5)
	state := map[string]string{}
	want, wantAt := map[string]string{}, map[kv.Revision]string{}
	set := func(i int) {
		defer func() {
			rev, err := f.Revision(t.Context())
			if err != nil {
				t.Error(err)
			}
			wantAt[rev] = fmt.Sprint(want)
		}()
		key, value := fmt.Sprintf("k%d", i%17), fmt.Sprint(i)
		if i%5 == 0 {
			if _, err := f.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
			delete(want, key)
			return
		}
		if _, err := f.Set(t.Context(), key, []byte(value)); err != nil {
			t.Error(err)
		}
		want[key] = value
	}
	for i := range 40 {
		set(i)
	}
	listed, n := 0, 40
	for ch, err := range kv.WatchSnapshot(t.Context(), c, kv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ch.Events {
			if e.Kind == kv.EventDelete {
				delete(state, e.Item.Key)
			} else {
				state[e.Item.Key] = string(e.Item.Value)
			}
		}
		if ch.Progress {
			if listed++; fmt.Sprint(state) != wantAt[ch.Revision] {
				t.Fatalf("listed at %d: %v, want %v", ch.Revision, state, wantAt[ch.Revision])
			}
		}
		if n < 400 {
			for range 7 {
				set(n)
				n++
			}
			rev, err := f.Revision(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n%3 == 0 {
				if err := f.Compact(t.Context(), rev); err != nil {
					t.Error(err)
				}
			}
		} else if fmt.Sprint(state) == fmt.Sprint(want) {
			break
		}
	}
	if listed < 3 {
		t.Errorf("listed %d times: the test shows nothing", listed)
	}
}
