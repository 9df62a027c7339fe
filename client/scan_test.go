package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// fill sets n keys whose values are large enough for a page each.
func fill(t *testing.T, f *kvtest.Fake, n int) {
	t.Helper()
	for i := range n {
		if _, err := f.Set(t.Context(), fmt.Sprintf("k%02d", i), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// watched says when the server's loop has ended.
type watched struct {
	*kvtest.Fake
	left chan struct{}
}

func (w *watched) Scan(ctx context.Context, r kv.Range, opts ...kv.ScanOption) iter.Seq2[kv.Item, error] {
	return func(yield func(kv.Item, error) bool) {
		defer close(w.left)
		w.Fake.Scan(ctx, r, opts...)(yield)
	}
}

func TestABreakFreesTheStream(t *testing.T) {
	w, b := newWorld(), &watched{kvtest.NewFake(), make(chan struct{})}
	fill(t, b.Fake, 20)
	w.serve(t, "a", b)
	for range w.client(t, Config{}, "a").Scan(t.Context(), kv.All()) {
		break
	}
	<-b.left
}

func TestAnErrorMidwayIsTheLastPair(t *testing.T) {
	c, a, b, _ := two(t)
	fill(t, a, 4)
	a.Between = func(_ context.Context, n int) error {
		if n == 3 {
			return kv.ErrClosed
		}
		return nil
	}
	n := 0
	var last error
	for _, err := range c.Scan(t.Context(), kv.All()) {
		n, last = n+1, err
	}
	if n != 4 || !errors.Is(last, kv.ErrClosed) || errors.Is(last, kv.ErrOutcomeUnknown) || b.Calls("Scan") != 0 {
		t.Errorf("%d pairs, then %v; b was asked %d times", n, last, b.Calls("Scan"))
	}
}

// The server dies in the middle of a scan.
func TestAScanOfADyingServer(t *testing.T) {
	c, a, _, stopA := two(t)
	fill(t, a, 10)
	n := 0
	var last error
	for _, err := range c.Scan(t.Context(), kv.All()) {
		if n++; n == 1 {
			stopA()
		}
		last = err
	}
	if last == nil || errors.Is(last, kv.ErrOutcomeUnknown) || n > 10 {
		t.Errorf("%d pairs, then %v", n, last)
	}
}

// RequestTimeout bounds each wait for items, not the loop's body.
func TestTheBodyMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), kvtest.NewFake()
		fill(t, f, 8)
		stop := w.serve(t, "a", f)
		c := w.client(t, Config{RequestTimeout: time.Second}, "a")
		n := 0
		for _, err := range c.Scan(t.Context(), kv.All()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			time.Sleep(time.Minute) // of the bubble's clock
		}
		if n != 8 {
			t.Errorf("%d items", n)
		}
		f.Between = func(ctx context.Context, n int) error {
			if n == 4 {
				<-ctx.Done()
			}
			return nil
		}
		begin := time.Now()
		var last error
		for _, err := range c.Scan(t.Context(), kv.All()) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), last)
		}
		c.Close()
		stop()
	})
}
