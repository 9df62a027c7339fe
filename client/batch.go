package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// sentBatch is a batch under way. It goes on while a caller waits for it.
type sentBatch struct {
	session  []byte
	seq, low uint64
	writes   []*pendingWrite
	waiting  int // callers
	ctx      context.Context
	cancel   context.CancelFunc
	// req is made when the batch is first sent, and never changes. While it is
	// nil, who leaves was not sent.
	req  *replkvv1.WriteRequest
	last *kv.Error // of the newest attempt
}

// retryPause is between two attempts at all endpoints.
const retryPause = 50 * time.Millisecond

// settle sends b until its outcome is known, or nobody waits for it. Invariant:
// an outcome is never upgraded; an attempt that was refused says nothing of
// those before it.
func (w *writer) settle(b *sentBatch) {
	doubt := false // an attempt may have done it
	for {
		results, e := w.attempt(b)
		if e == nil {
			w.answer(b, results, nil)
			return
		}
		doubt = doubt || e.Outcome == kv.OutcomeUnknown
		if doubt && e.Outcome == kv.OutcomeNotDone {
			e.Outcome = kv.OutcomeUnknown
		}
		lost := errors.Is(e.Err, kv.ErrSessionNotFound)
		again := lost && e.Outcome == kv.OutcomeNotDone
		if lost {
			w.lose(b)
		}
		if b.ctx.Err() != nil || !again && (lost || e.Outcome != kv.OutcomeUnknown || !unavailable(e) && !resolvable(e)) {
			w.answer(b, nil, e)
			return
		}
		w.note(b, e)
		pause(b.ctx)
		switch {
		case b.ctx.Err() != nil:
			w.c.callError(b.ctx, "", numbered, e)
			w.answer(b, nil, e)
			return
		case again:
			w.again(b)
			return
		}
	}
}

// attempt sends b to the endpoints until one knows what became of it.
func (w *writer) attempt(b *sentBatch) ([]*replkvv1.WriteResult, *kv.Error) {
	var res *replkvv1.WriteResponse
	err := w.c.round(b.ctx, "Write", numbered, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		req := w.seal(b)
		if req == nil {
			return context.Canceled
		}
		res, err = s.Write(ctx, req, opts...)
		return err
	})
	if err != nil {
		e := err.(*kv.Error) // as round's are
		e.Op = ""            // each caller's own
		return nil, e
	}
	if n := len(res.GetResults()); n != len(b.writes) {
		return nil, &kv.Error{Err: fmt.Errorf("%w: %d results for %d operations", kv.ErrCorrupt, n, len(b.writes))}
	}
	return res.GetResults(), nil
}

// seal fixes what b carries: those who still wait when it is first sent. Nil if
// there are none.
func (w *writer) seal(b *sentBatch) *replkvv1.WriteRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.req == nil && b.waiting > 0 {
		b.writes = slices.DeleteFunc(b.writes, func(p *pendingWrite) bool { return p.left })
		b.req = &replkvv1.WriteRequest{Session: b.session, Seq: b.seq, LowWater: b.low}
		for _, p := range b.writes {
			b.req.Operations = append(b.req.Operations, p.op)
		}
	}
	return b.req
}

// resolvable says whether sending a batch in doubt again may tell what became of
// it.
func resolvable(e *kv.Error) bool {
	return errors.Is(e.Err, kv.ErrOutcomeUnknown) || errors.Is(e.Err, kv.ErrOverloaded) ||
		errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) || status.Code(e.Err) == codes.Aborted
}

func pause(ctx context.Context) {
	t := time.NewTimer(retryPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// note keeps the error for those who leave.
func (w *writer) note(b *sentBatch, e *kv.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := *e
	b.last = &last
}

// answer ends b and tells the callers, who may be gone.
func (w *writer) answer(b *sentBatch, results []*replkvv1.WriteResult, err *kv.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if string(w.session) == string(b.session) {
		delete(w.open, b.seq)
	}
	for i, p := range b.writes {
		a := written{}
		if err != nil {
			e := *err
			a.err = &e
		} else if a.res = results[i]; len(a.res.GetError()) > 0 {
			a.err = restore(a.res.GetError())
		}
		p.done <- a
	}
	w.startLocked() // the window may have moved
}

// restore decodes the error of an operation.
func restore(raw []byte) *kv.Error {
	s := status.New(codes.Unknown, "").Proto() // its package is gRPC's to import
	if err := proto.Unmarshal(raw, s); err != nil {
		return &kv.Error{Err: fmt.Errorf("%w: %w", kv.ErrCorrupt, err)}
	}
	e, ok := wireerr.FromStatus(status.ErrorProto(s)).(*kv.Error)
	if !ok { // its code is OK
		return &kv.Error{Err: fmt.Errorf("%w: an error without a code", kv.ErrCorrupt)}
	}
	return e
}

// lose forgets b's session, which the cluster does not know any more.
func (w *writer) lose(b *sentBatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if string(w.session) == string(b.session) {
		w.session, w.seq = nil, 0
		clear(w.open)
	}
}

// again queues the writes of a batch that was not done and never will be, for
// its session is gone.
func (w *writer) again(b *sentBatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting := slices.DeleteFunc(b.writes, func(p *pendingWrite) bool { return p.left })
	for _, p := range waiting {
		p.batch = nil
	}
	w.queue = append(waiting, w.queue...)
}
