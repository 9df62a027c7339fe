package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// stream reads the messages of a call that gets many. Until the first one came another
// endpoint may take over; an error after it is final.
type stream[M any] struct {
	c      *Client
	op     string
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     grpc.ServerStreamingClient[M]
	msg    *M // nil: the end
}

// newStream is of a call named op; close frees it, on the server too.
func newStream[M any](ctx context.Context, c *Client, op string) *stream[M] {
	s := &stream[M]{c: c, op: op}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

func (s *stream[M]) close() { s.cancel(nil) }

// open finds an endpoint and gets the first message.
func (s *stream[M]) open(call func(ctx context.Context, rpc services, opts ...grpc.CallOption) (grpc.ServerStreamingClient[M], error)) error {
	return s.wait(func() error {
		return s.c.round(s.ctx, s.op, reads, func(ctx context.Context, rpc services, opts ...grpc.CallOption) (err error) {
			if s.in, err = call(ctx, rpc, opts...); err != nil {
				return err
			}
			return s.recv()
		})
	})
}

// next gets the next message.
func (s *stream[M]) next() error {
	return s.wait(func() error {
		if err := s.recv(); err != nil {
			return s.c.callError(s.ctx, s.op, reads, wireerr.FromStatus(err).(*kv.Error))
		}
		return nil
	})
}

// wait gives fn RequestTimeout if ctx has no deadline: not the stream as a
// whole, which lasts as long as what its messages are for.
func (s *stream[M]) wait(fn func() error) error {
	if _, ok := s.ctx.Deadline(); ok {
		return fn()
	}
	t := time.AfterFunc(s.c.timeout, func() { s.cancel(errTimeout) })
	defer t.Stop()
	return fn()
}

func (s *stream[M]) recv() (err error) {
	s.msg, err = s.in.Recv()
	if errors.Is(err, io.EOF) {
		s.msg = nil
		return nil
	}
	return err
}
