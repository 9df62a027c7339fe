package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// Watch yields the changes of r, each exactly once. If the stream breaks, or
// nothing is heard for longer than RequestTimeout, the watch goes on at another
// endpoint after the last change delivered; an error is the last pair only if no
// endpoint took over within RequestTimeout, or none can, as after a compaction.
// Then AfterRevision of the last change begins where it ended. See kv.KV.
func (c *Client) Watch(ctx context.Context, r kv.Range, opts ...kv.WatchOption) iter.Seq2[kv.Change, error] {
	o := kv.WatchOptionsOf(opts)
	return func(yield func(kv.Change, error) bool) {
		rng, err := rangeToProto(r)
		if err = errors.Join(err, o.Validate()); err != nil {
			yield(kv.Change{}, refused("Watch", err))
			return
		}
		w := watch{c: c, progress: o.Progress > 0, req: &replkvv1.WatchRequest{Range: rng, WithPrevious: o.Previous,
			OnlyPuts: o.OnlyPuts, OnlyDeletes: o.OnlyDeletes, ProgressMs: c.pulse(o.Progress).Milliseconds()}}
		w.silence = c.pulse(o.Progress) + c.timeout
		if o.Resume {
			w.req.AfterRevision = new(int64(o.After))
		}
		if err := w.run(ctx, yield); err != nil {
			yield(kv.Change{}, err)
		}
	}
}

// pulse is how often the server is asked for progress: so that its silence is
// noticed, and a watch that breaks need not go back far.
func (c *Client) pulse(asked time.Duration) time.Duration {
	p := max(c.timeout/2, kv.MinProgress)
	if asked > 0 {
		p = min(p, asked)
	}
	return p
}

// watch is one loop over a sequence.
type watch struct {
	c        *Client
	req      *replkvv1.WatchRequest // its AfterRevision: all up to there is delivered
	progress bool                   // the caller wants it
	silence  time.Duration          // after so much the server is taken for dead
	heard    time.Time              // when a stream last brought something beyond its beginning
}

// errSilent is the cause of a stream that was given up.
var errSilent = errors.New("nothing was heard")

// run goes from stream to stream. It returns nil if the body broke out.
func (w *watch) run(ctx context.Context, yield func(kv.Change, error) bool) error {
	w.heard = time.Now()
	for {
		s, err := w.open(ctx)
		if err != nil {
			return err
		}
		broken := w.follow(s, yield)
		s.cancel(nil) // frees the stream, on the server too
		switch {
		case broken == nil:
			return nil
		case w.c.closed.Load() || ctx.Err() != nil || !resumable(broken) || time.Since(w.heard) > 2*w.silence:
			return w.c.callError(ctx, "Watch", reads, broken)
		case broken.Err == errSilent:
			w.c.current.Add(1) // else it has the first turn again
		}
		pause(ctx)
	}
}

// resumable says whether the watch may go on at another endpoint.
func resumable(err *kv.Error) bool {
	return unavailable(err) || errors.Is(err, errSilent) || errors.Is(err, io.EOF)
}

// watchStream is a stream from one endpoint.
type watchStream struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	grpc.ServerStreamingClient[replkvv1.WatchResponse]
}

// open finds an endpoint that has begun to serve the watch, for up to
// RequestTimeout.
func (w *watch) open(ctx context.Context) (*watchStream, error) {
	limit, cancel := context.WithTimeoutCause(ctx, w.c.timeout, errTimeout)
	defer cancel()
	for {
		s, err := w.round(ctx, limit)
		if err == nil {
			return s, nil
		}
		if e := err.(*kv.Error); !unavailable(e) || w.c.closed.Load() || limit.Err() != nil { // as round's are
			return nil, err
		}
		pause(limit)
		if limit.Err() != nil {
			return nil, err
		}
	}
}

// errSlow is the answer of an endpoint that has not begun to serve the watch in
// its turn: the next may, as where this one is cut off from its leader.
var errSlow = status.Error(codes.Unavailable, "the watch does not begin")

// round gives each endpoint a turn, and an equal part of RequestTimeout.
func (w *watch) round(ctx, limit context.Context) (*watchStream, error) {
	var s *watchStream
	err := w.c.round(limit, "Watch", reads, func(_ context.Context, rpc services, opts ...grpc.CallOption) (err error) {
		turn, cancel := context.WithTimeoutCause(limit, w.c.timeout/time.Duration(len(w.c.endpoints)), errSlow)
		defer cancel()
		s, err = w.begin(ctx, turn, rpc, opts)
		if err != nil && context.Cause(turn) == errSlow {
			return errSlow
		}
		return err
	})
	return s, err
}

// begin opens a stream, whose ctx is the caller's, and waits within the limit
// for its first message.
func (w *watch) begin(ctx, limit context.Context, rpc services, opts []grpc.CallOption) (*watchStream, error) {
	s := &watchStream{}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	stop := context.AfterFunc(limit, func() { s.cancel(context.Cause(limit)) })
	stream, err := rpc.Watch(s.ctx, w.req, opts...)
	var first *replkvv1.WatchResponse
	if err == nil {
		s.ServerStreamingClient = stream
		first, err = stream.Recv()
	}
	if !stop() && err == nil {
		err = context.Cause(limit)
	}
	if err != nil {
		s.cancel(nil)
		return nil, err
	}
	w.delivered(first.GetRevision())
	return s, nil
}

// delivered notes that a stream that breaks now need not go back further.
func (w *watch) delivered(rev int64) {
	w.req = &replkvv1.WatchRequest{Range: w.req.Range, WithPrevious: w.req.WithPrevious, OnlyPuts: w.req.OnlyPuts,
		OnlyDeletes: w.req.OnlyDeletes, ProgressMs: w.req.ProgressMs, AfterRevision: &rev}
}

// follow delivers what comes until the stream ends, and returns why, or nil if
// the body has broken out.
func (w *watch) follow(s *watchStream, yield func(kv.Change, error) bool) *kv.Error {
	for {
		c, err := w.change(s)
		if err == nil {
			err = s.ctx.Err() // gRPC may hold messages that came before
		}
		if err != nil {
			if context.Cause(s.ctx) == errSilent {
				err = errSilent
			}
			return wireerr.FromStatus(err).(*kv.Error) // always one
		}
		w.delivered(int64(c.Revision))
		if c.Progress && !w.progress {
			continue
		}
		if !yield(c, nil) {
			return nil
		}
	}
}

// change receives one change, in parts. What was received of one that the stream
// does not end is dropped: it comes again, whole.
func (w *watch) change(s *watchStream) (kv.Change, error) {
	t := time.AfterFunc(w.silence, func() { s.cancel(errSilent) })
	defer t.Stop()
	var c kv.Change
	for {
		msg, err := s.Recv()
		if err != nil {
			return c, err
		}
		t.Reset(w.silence)
		w.heard = time.Now()
		c.Revision, c.Progress = kv.Revision(msg.GetRevision()), msg.GetProgress()
		for _, e := range msg.GetEvents() {
			if err := addEvent(&c, e); err != nil {
				return c, err
			}
		}
		if !msg.GetContinued() {
			return c, nil
		}
	}
}

func addEvent(c *kv.Change, e *replkvv1.Event) error {
	var prev *kv.Item
	if e.GetPrev() != nil {
		prev = new(itemFromProto(e.GetPrev(), false))
	}
	switch kind := e.GetKind(); kind {
	case replkvv1.Event_KIND_PUT:
		c.Events = append(c.Events, kv.Event{Kind: kv.EventPut, Item: itemFromProto(e.GetItem(), false), Prev: prev})
	case replkvv1.Event_KIND_DELETE:
		c.Events = append(c.Events, kv.Event{Kind: kv.EventDelete, Item: itemFromProto(e.GetItem(), true), Prev: prev})
	case replkvv1.Event_KIND_PREVIOUS:
		if len(c.Events) == 0 {
			return fmt.Errorf("%w: a previous item without an event", kv.ErrCorrupt)
		}
		c.Events[len(c.Events)-1].Prev = prev
	default:
		return fmt.Errorf("%w: %v", kv.ErrFormatTooNew, kind)
	}
	return nil
}
