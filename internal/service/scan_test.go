package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

var everything = &replkvv1.Range{Open: true}

// Pages stay bounded with large values and with millions of small items.
func TestScanPages(t *testing.T) {
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	items := 0
	fill := func(n, size int) {
		for range n {
			if _, err := f.Set(t.Context(), fmt.Sprintf("k%06d", items), make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			items++
		}
	}
	fill(100, 100<<10)
	fill(2, kvtest.MaxValueBytes)
	fill(20_000, 100)
	stream, err := c.Scan(t.Context(), &replkvv1.ScanRequest{Range: everything})
	if err != nil {
		t.Fatal(err)
	}
	got, pages := 0, 0
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pages++
		got += len(page.GetItems())
		if n := proto.Size(page); n > scanPageBytes && len(page.GetItems()) > 1 || n > maxMessageBytes || n == 0 {
			t.Errorf("page of %d bytes with %d items", n, len(page.GetItems()))
		}
	}
	if got != items || pages > 30 {
		t.Errorf("%d items in %d pages, want %d items", got, pages, items)
	}
}

// Items before an error arrive, then the error.
func TestScanThatFailsMidway(t *testing.T) {
	f := kvtest.NewFake()
	f.Between = func(_ context.Context, n int) error {
		if n == 2 {
			return &kv.CompactedError{Revision: 1, Compacted: 3}
		}
		return nil
	}
	c := replkvv1.NewKVClient(serve(t, f))
	for i := range 4 {
		if _, err := f.Set(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := c.Scan(t.Context(), &replkvv1.ScanRequest{Range: everything})
	if err != nil {
		t.Fatal(err)
	}
	page, err := stream.Recv()
	if err != nil || len(page.GetItems()) != 2 {
		t.Errorf("got %v, %v", page, err)
	}
	_, err = stream.Recv()
	wantStatus(t, err, codes.OutOfRange, "COMPACTED", refused)
}

// watchedScan says when the handler has left the backend's loop.
type watchedScan struct {
	*kvtest.Fake
	left chan struct{}
}

func (w *watchedScan) Scan(ctx context.Context, r kv.Range, opts ...kv.ScanOption) iter.Seq2[kv.Item, error] {
	return func(yield func(kv.Item, error) bool) {
		defer close(w.left)
		w.Fake.Scan(ctx, r, opts...)(yield)
	}
}

// The handler ends when the client's ctx does, whether it sends (to a client
// that does not read) or waits for the backend.
func TestScanEndsWithItsContext(t *testing.T) {
	for name, between := range map[string]func(context.Context, int) error{
		"sending": nil,
		"waiting": func(ctx context.Context, n int) error {
			if n == 2 {
				<-ctx.Done()
			}
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watchedScan{kvtest.NewFake(), make(chan struct{})}
			w.Between = between
			c := replkvv1.NewKVClient(serveBackend(t, w))
			for i := range 10 {
				if _, err := w.Set(t.Context(), fmt.Sprint(i), make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := c.Scan(ctx, &replkvv1.ScanRequest{Range: everything})
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			for err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.Canceled {
				t.Errorf("got %v", err)
			}
			<-w.left
		})
	}
}
