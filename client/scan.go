package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// Scan yields the items of r in key order, as of one revision. Each loop over
// the returned sequence opens a stream of its own, which the loop's end frees.
// Until the first item came another endpoint may take over; an error after it
// is final, since only the server knows the revision. See kv.KV.
func (c *Client) Scan(ctx context.Context, r kv.Range, opts ...kv.ScanOption) iter.Seq2[kv.Item, error] {
	var o kv.ScanOptions
	for _, opt := range opts {
		opt.ApplyScan(&o)
	}
	return func(yield func(kv.Item, error) bool) {
		rng, err := rangeToProto(r)
		if err != nil {
			yield(kv.Item{}, refused("Scan", err))
			return
		}
		s := scan{c: c, keysOnly: o.KeysOnly, req: &replkvv1.ScanRequest{Range: rng, Read: readToProto(&o.ReadOptions),
			Limit: int64(o.Limit), Reverse: o.Reverse, KeysOnly: o.KeysOnly}}
		var cancel context.CancelCauseFunc
		s.ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil) // frees the stream, on the server too
		s.cancel = cancel
		s.run(yield)
	}
}

// scan is one loop over a sequence.
type scan struct {
	c        *Client
	req      *replkvv1.ScanRequest
	keysOnly bool
	ctx      context.Context // of the stream
	cancel   context.CancelCauseFunc
	stream   grpc.ServerStreamingClient[replkvv1.ScanResponse]
	page     *replkvv1.ScanResponse // nil: the end
}

func (s *scan) run(yield func(kv.Item, error) bool) {
	err := s.wait(s.open)
	for err == nil && s.page != nil {
		for _, it := range s.page.GetItems() {
			if !yield(itemFromProto(it, s.keysOnly), nil) {
				return
			}
		}
		err = s.wait(s.next)
	}
	if err != nil {
		yield(kv.Item{}, err)
	}
}

// wait gives fn RequestTimeout if ctx has no deadline: not the stream as a
// whole, which lasts as long as the loop's body likes.
func (s *scan) wait(fn func() error) error {
	if _, ok := s.ctx.Deadline(); ok {
		return fn()
	}
	t := time.AfterFunc(s.c.timeout, func() { s.cancel(errTimeout) })
	defer t.Stop()
	return fn()
}

// open finds an endpoint and gets the first page.
func (s *scan) open() error {
	return s.c.round(s.ctx, "Scan", reads, func(ctx context.Context, rpc services, opts ...grpc.CallOption) (err error) {
		if s.stream, err = rpc.Scan(ctx, s.req, opts...); err != nil {
			return err
		}
		return s.recv()
	})
}

func (s *scan) next() error {
	if err := s.recv(); err != nil {
		return s.c.callError(s.ctx, "Scan", reads, wireerr.FromStatus(err).(*kv.Error))
	}
	return nil
}

// recv gets the next page.
func (s *scan) recv() (err error) {
	s.page, err = s.stream.Recv()
	if errors.Is(err, io.EOF) {
		s.page = nil
		return nil
	}
	return err
}
