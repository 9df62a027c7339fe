package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// TestGetsShareRPCs: while RPCs are under way, who comes waits for one together,
// and each gets its own answer.
func TestGetsShareRPCs(t *testing.T) {
	c, f := one(t, Config{})
	for i := range 50 {
		if _, err := c.Set(t.Context(), fmt.Sprint("k", i), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	hold := make(chan struct{})
	f.Before = func(_ context.Context, op string) error {
		if op == "GetMany" {
			<-hold
		}
		return nil
	}
	var wg sync.WaitGroup
	get := func(i int) { // half of the keys are absent
		wg.Go(func() {
			item, err := c.Get(t.Context(), fmt.Sprint("k", i))
			switch {
			case i < 50 && (err != nil || string(item.Value) != fmt.Sprint(i)):
				t.Errorf("k%d: %q, %v", i, item.Value, err)
			case i >= 50 && (!errors.Is(err, kv.ErrNotFound) || kv.OutcomeOf(err) != kv.OutcomeNotDone):
				t.Errorf("k%d: %v", i, err)
			}
		})
	}
	for i := range batchesInFlight {
		get(i)
		waitFor(t, "it to be sent", func() bool { return f.Calls("GetMany") == i+1 })
	}
	for i := batchesInFlight; i < 100; i++ {
		get(i)
	}
	waitFor(t, "the others to be queued", func() bool {
		c.reads.mu.Lock()
		defer c.reads.mu.Unlock()
		return len(c.reads.queue) == 100-batchesInFlight
	})
	close(hold)
	wg.Wait()
	if n := f.Calls("GetMany"); n > 2*batchesInFlight {
		t.Errorf("%d RPCs for 100 Gets", n)
	}
}

// TestGetsOfMuch: what does not fit a message comes with the next.
func TestGetsOfMuch(t *testing.T) {
	c, f := one(t, Config{})
	value := []byte(strings.Repeat("v", kvtest.MaxValueBytes))
	n := 9<<20/len(value) + 1
	hold := make(chan struct{})
	for i := range n {
		if _, err := c.Set(t.Context(), fmt.Sprint("k", i), value); err != nil {
			t.Fatal(err)
		}
	}
	f.Before = func(context.Context, string) error { <-hold; return nil }
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if item, err := c.Get(t.Context(), fmt.Sprint("k", i)); err != nil || len(item.Value) != len(value) {
				t.Errorf("k%d: %d bytes, %v", i, len(item.Value), err)
			}
		})
	}
	close(hold)
	wg.Wait()
}

// TestGetsOfTheirOwn: what asks for more than the key is not joined.
func TestGetsOfTheirOwn(t *testing.T) {
	c, f := one(t, Config{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "me")
	if _, err := c.Get(ctx, "k"); !errors.Is(err, kv.ErrNotFound) {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), "k", kv.Local()); !errors.Is(err, kv.ErrNotFound) {
		t.Error(err)
	}
	if n := f.Calls("GetMany"); n != 0 {
		t.Errorf("%d of them were joined", n)
	}
}

// TestAGetLeaves: who gives up does not disturb those who go on.
func TestAGetLeaves(t *testing.T) {
	c, f := one(t, Config{})
	hold := make(chan struct{})
	f.Before = func(context.Context, string) error { <-hold; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan error), make(chan error)
	go func() { _, err := c.Get(ctx, "left"); left <- err }()
	waitFor(t, "it to be sent", func() bool { return f.Calls("GetMany") == 1 })
	go func() { _, err := c.Get(t.Context(), "stayed"); stayed <- err }()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrOutcomeUnknown) {
		t.Error(err)
	}
	close(hold)
	if err := <-stayed; !errors.Is(err, kv.ErrNotFound) {
		t.Error(err)
	}
}

func TestCloseEndsGets(t *testing.T) {
	c, f := one(t, Config{})
	f.Before = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), fmt.Sprint("k", i)); !errors.Is(err, kv.ErrClosed) {
				t.Error(err)
			}
		})
	}
	waitFor(t, "some to be sent", func() bool { return f.Calls("GetMany") > 0 })
	c.Close()
	wg.Wait()
	if _, err := c.Get(t.Context(), "k"); !errors.Is(err, kv.ErrClosed) {
		t.Error(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
