package replkv

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/store/raftlog"
)

// TestByteRate: all who wait together get the rate, no more than its slack at
// once, and nobody waits longer than ctx lasts.
func TestByteRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := byteRate{perSecond: 1 << 20}
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 32 {
					if err := r.wait(t.Context(), 64<<10); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 6*time.Second-rateSlack {
			t.Errorf("6 MiB at 1 MiB/s took %v", took)
		}

		time.Sleep(time.Hour) // nothing is saved up
		began = time.Now()
		if err := r.wait(t.Context(), 1<<20); err != nil || time.Since(began) != time.Second-rateSlack {
			t.Errorf("1 MiB after an idle hour took %v, %v", time.Since(began), err)
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Millisecond, func() { cancel(gone) })
		began = time.Now()
		if err := r.wait(ctx, 1<<30); err != gone || time.Since(began) != time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), err)
		}

		began = time.Now()
		if err := (&byteRate{perSecond: -1}).wait(t.Context(), 1<<40); err != nil || time.Since(began) != 0 {
			t.Errorf("without a limit: %v, %v", time.Since(began), err)
		}
	})
}

// TestFeedEnds: a stream ends when the member stops leading, and a reader that
// waits for the rate when the store closes.
func TestFeedEnds(t *testing.T) {
	l, err := raftlog.Open(t.TempDir(), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := raftlog.NewGuard(l, raftlog.GuardOptions{})
	defer g.Close()
	pin, _ := g.Pin(1)
	ctx, cancel := context.WithCancelCause(t.Context())
	leads := true
	r := &feedReader{ReadCloser: io.NopCloser(strings.NewReader("0123456789")), pin: pin,
		rate: &byteRate{perSecond: 1 << 20}, ctx: ctx, leads: func() bool { return leads }}
	buf := make([]byte, 2)
	if n, err := r.Read(buf); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	leads = false
	if n, err := r.Read(buf); n != 0 || err != errNoLongerLeader {
		t.Errorf("no longer leader: %d, %v", n, err)
	}
	leads = true
	r.rate.free = time.Now().Add(time.Hour)
	waits := make(chan error)
	go func() {
		n, err := r.Read(buf)
		if n != 0 {
			t.Errorf("%d bytes with %v", n, err)
		}
		waits <- err
	}()
	cancel(ErrClosed)
	if err := <-waits; err != ErrClosed {
		t.Error(err)
	}
}
