package client

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// writer joins the writes of concurrent callers into batches of the client's
// session. A batch is numbered and never changes, and is sent, to whichever
// endpoint, until it is answered: it is done once. An RPC costs far more than
// what it carries, so a few batches under way do more than an RPC for each write
// would; a lone write never waits.
type writer struct {
	c *Client
	// wg has those that send. It is added to under mu, and not once closed is set.
	wg sync.WaitGroup

	// opening, of capacity 1, is full while a session is opened. A channel, since that
	// is an RPC: who waits for a mutex makes virtual time stand still, and the RPC with it.
	opening chan struct{}

	mu      sync.Mutex // protects the fields below, and those of writes and batches
	closed  bool
	queue   []*pendingWrite
	session []byte // nil: to be opened
	seq     uint64 // of the newest batch
	// open has the batches of the session that have no answer. Invariant: the
	// low-water mark of a new batch is below all of them.
	open    map[uint64]bool
	senders int // at least 1 while something is queued that may be sent
}

const (
	// batchesInFlight bounds the RPCs under way.
	batchesInFlight = 2
	// A batch is closed at these sizes. The server takes 4096 operations, and 512
	// KiB, or a larger one alone.
	maxBatchOps   = 1024
	maxBatchBytes = 256 << 10
	// sessionWindow is how far seq may run ahead of the low-water mark.
	sessionWindow = 64
	sessionBytes  = 16
)

// pendingWrite is a caller's write on its way.
type pendingWrite struct {
	op    *replkvv1.WriteOperation
	size  int
	ctx   context.Context // for its values and its deadline
	until time.Time       // that deadline
	alone bool            // ctx carries metadata, which is for this write only
	done  chan written    // capacity 1; nobody is answered twice
	left  bool            // the caller is gone
	batch *sentBatch      // nil: queued
}

type written struct {
	res *replkvv1.WriteResult
	err *kv.Error
}

func (w *writer) init(c *Client) {
	w.c, w.open, w.opening = c, make(map[uint64]bool), make(chan struct{}, 1)
}

// close lets no more writes in. Those that are in are answered by their senders,
// which find the client closed.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// write has one operation done. The result's error is returned as err, and what stays
// of a result that was dropped with it.
func (c *Client) write(ctx context.Context, name string, op *replkvv1.WriteOperation) (*replkvv1.WriteResult, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	p := &pendingWrite{op: op, size: proto.Size(op), ctx: ctx, done: make(chan written, 1)}
	p.until, _ = ctx.Deadline()
	md, _ := metadata.FromOutgoingContext(ctx)
	p.alone = len(md) > 0
	if err := checkSize(p.size); err != nil {
		return nil, refused(name, err)
	}
	if ctx.Err() != nil || !c.writes.add(p) {
		return nil, c.callError(ctx, name, writes, &kv.Error{Outcome: kv.OutcomeNotDone, Err: c.notReached(ctx, nil)})
	}
	var a written
	select {
	case a = <-p.done:
	case <-ctx.Done():
		a = c.writes.leave(p)
	}
	if a.err != nil {
		return a.res, c.callError(ctx, name, writes, a.err)
	}
	return a.res, nil
}

// add queues p, and has it sent; false once the client is closed.
func (w *writer) add(p *pendingWrite) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.queue = append(w.queue, p)
	w.startLocked()
	return true
}

// startLocked starts another sender if there may be one.
func (w *writer) startLocked() {
	if len(w.queue) > 0 && w.senders < batchesInFlight && !w.closed {
		w.senders++
		w.wg.Go(w.send)
	}
}

// leave gives up on p: not done if it was not sent, unknown otherwise, unless
// the answer came just now.
func (w *writer) leave(p *pendingWrite) written {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case a := <-p.done:
		return a
	default:
	}
	p.left = true
	b := p.batch
	if b == nil {
		w.queue = slices.DeleteFunc(w.queue, func(q *pendingWrite) bool { return q == p })
	} else if b.waiting--; b.waiting == 0 {
		b.cancel()
	}
	switch {
	case b == nil || b.req == nil:
		return written{err: &kv.Error{Outcome: kv.OutcomeNotDone, Err: w.c.notReached(p.ctx, w.c.unreachable())}}
	case b.last != nil:
		e := *b.last
		e.Outcome = kv.OutcomeUnknown
		return written{err: &e}
	}
	return written{err: &kv.Error{Err: ended(p.ctx)}}
}

// send sends batches until there is nothing to send.
func (w *writer) send() {
	for {
		b, more := w.next()
		switch {
		case b != nil:
			w.settle(b)
			b.cancel()
			runtime.Gosched() // who was answered may have the next write ready
		case more:
			w.openSession()
		default:
			return
		}
	}
}

// next makes a batch of what is queued. Without one, more says that a session
// must be opened first. Else the sender ends: nothing is queued, or as many
// batches have no answer as there may be, and the one that has the oldest goes
// on.
func (w *writer) next() (b *sentBatch, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	low := w.lowWaterLocked()
	switch {
	case len(w.queue) > 0 && w.session == nil:
		return nil, true
	case len(w.queue) == 0 || low+sessionWindow <= w.seq:
		w.senders--
		return nil, false
	}
	n, size := 0, 0
	for ; n < min(len(w.queue), maxBatchOps); n++ {
		p := w.queue[n]
		if n > 0 && (size+p.size > maxBatchBytes || p.alone || w.queue[0].alone) {
			break
		}
		size += p.size
	}
	w.seq++
	w.open[w.seq] = true
	b = &sentBatch{session: w.session, seq: w.seq, low: low, writes: slices.Clone(w.queue[:n]), waiting: n}
	w.queue = slices.Delete(w.queue, 0, n)
	for _, p := range b.writes {
		p.batch = b
	}
	b.ctx, b.cancel = w.detach(b.writes[0].ctx, latest(b.writes))
	return b, false
}

// lowWaterLocked is the seq up to which all batches are answered, or given up.
func (w *writer) lowWaterLocked() uint64 {
	low := w.seq
	for seq := range w.open {
		low = min(low, seq-1)
	}
	return low
}

// latest is the deadline of the write that may wait longest.
func latest(writes []*pendingWrite) (until time.Time) {
	for _, p := range writes {
		if p.until.After(until) {
			until = p.until
		}
	}
	return until
}

// detach returns a context with the values of a caller's, but which goes on when
// that caller leaves, and ends with the client.
func (w *writer) detach(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	out, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), until, errTimeout)
	stop := context.AfterFunc(w.c.ctx, cancel)
	return out, func() { stop(); cancel() }
}

// openSession opens a session, unless another sender just did. It goes on when
// callers leave: the next will want it. If it fails, those who wait hear of it.
func (w *writer) openSession() {
	w.opening <- struct{}{}
	defer func() { <-w.opening }()
	w.mu.Lock()
	if w.session != nil || len(w.queue) == 0 {
		w.mu.Unlock()
		return
	}
	first, until := w.queue[0], latest(w.queue)
	w.mu.Unlock()
	ctx, cancel := w.detach(first.ctx, time.Now().Add(w.c.timeout))
	defer cancel()
	var id []byte
	err := w.c.turns(ctx, until, "OpenSession", settles, func(ctx context.Context, s services, opts ...grpc.CallOption) error {
		res, err := s.OpenSession(ctx, &replkvv1.OpenSessionRequest{}, opts...)
		id = res.GetSession()
		return err
	})
	if err == nil && len(id) != sessionBytes {
		err = &kv.Error{Err: fmt.Errorf("%w: a session of %d bytes", kv.ErrCorrupt, len(id))}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.session = id
		return
	}
	e := err.(*kv.Error) // as turns' are
	switch expired := !time.Now().Before(until); {
	case expired && !w.closed:
		e.Err = fmt.Errorf("%w: %w", context.DeadlineExceeded, e.Err)
	case ctx.Err() != nil && !w.closed:
		return // whoever still waits has another try
	}
	w.failLocked(first, until, e)
}

// failLocked tells that there is no session. Metadata may be why, so who sends
// other metadata has a try of their own; so has who came later and may wait
// longer.
func (w *writer) failLocked(first *pendingWrite, until time.Time, err *kv.Error) {
	w.queue = slices.DeleteFunc(w.queue, func(p *pendingWrite) bool {
		if p != first && (first.alone || p.alone || p.until.After(until)) && !w.closed {
			return false
		}
		e := *err
		e.Op, e.Outcome = "", kv.OutcomeNotDone
		p.done <- written{err: &e}
		return true
	})
}
