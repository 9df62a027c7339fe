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

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// reader joins the Gets of concurrent callers into a few RPCs, as writer does
// with writes. A Get joins only an RPC that has not been sent, so it is
// linearizable. Only Gets without options are joined, and none whose ctx
// carries metadata.
type reader struct {
	c *Client
	// wg has those that ask. It is added to under mu, and not once closed is set.
	wg sync.WaitGroup

	mu      sync.Mutex // protects the fields below
	queue   []*pendingGet
	closed  bool
	senders int
}

// maxGets bounds the keys of an RPC. The server takes 4096.
const maxGets = 512

// pendingGet is a caller's Get on its way.
type pendingGet struct {
	key  string
	ctx  context.Context
	done chan gotten // capacity 1
}

type gotten struct {
	item kv.Item
	err  *kv.Error
}

// sharable says whether a Get may travel with others.
func sharable(ctx context.Context, o *kv.ReadOptions) bool {
	md, _ := metadata.FromOutgoingContext(ctx)
	return len(md) == 0 && *o == (kv.ReadOptions{})
}

// get reads a key.
func (r *reader) get(ctx context.Context, key string) (kv.Item, error) {
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	g := &pendingGet{key: key, ctx: ctx, done: make(chan gotten, 1)}
	if ctx.Err() != nil || !r.add(g) {
		return kv.Item{}, r.c.callError(ctx, "Get", reads, &kv.Error{Err: r.c.notReached(ctx, nil)})
	}
	var a gotten
	select {
	case a = <-g.done:
	case <-ctx.Done():
		a = r.leave(g)
	}
	if a.err != nil {
		return kv.Item{}, r.c.callError(ctx, "Get", reads, a.err)
	}
	return a.item, nil
}

// add queues g, and has it sent; false once the client is closed.
func (r *reader) add(g *pendingGet) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.queue = append(r.queue, g)
	if r.senders < batchesInFlight {
		r.senders++
		r.wg.Go(r.send)
	}
	return true
}

func (r *reader) leave(g *pendingGet) gotten {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case a := <-g.done:
		return a
	default:
	}
	r.queue = slices.DeleteFunc(r.queue, func(q *pendingGet) bool { return q == g })
	return gotten{err: &kv.Error{Err: r.c.notReached(g.ctx, r.c.unreachable())}}
}

// close lets no more Gets in. Those that are in are answered by their senders.
func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// send asks until nobody waits.
func (r *reader) send() {
	for {
		gets := r.take()
		if len(gets) == 0 {
			return
		}
		r.ask(gets)
		runtime.Gosched() // who was answered may have the next Get ready
	}
}

// take takes what is queued; nothing ends the sender.
func (r *reader) take() []*pendingGet {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, size := 0, 0
	for ; n < min(len(r.queue), maxGets); n++ {
		if size += len(r.queue[n].key); n > 0 && size > maxBatchBytes {
			break
		}
	}
	gets := slices.Clone(r.queue[:n])
	r.queue = slices.Delete(r.queue, 0, n)
	if n == 0 {
		r.senders--
	}
	return gets
}

// ask makes RPCs until all gets have an answer: one may not hold all values.
func (r *reader) ask(gets []*pendingGet) {
	var until time.Time
	for _, g := range gets {
		if d, _ := g.ctx.Deadline(); d.After(until) {
			until = d
		}
	}
	ctx, cancel := context.WithDeadlineCause(context.WithoutCancel(gets[0].ctx), until, errTimeout)
	defer cancel()
	defer context.AfterFunc(r.c.ctx, cancel)()
	for len(gets) > 0 {
		req := &replkvv1.GetManyRequest{Keys: make([][]byte, len(gets))}
		for i, g := range gets {
			req.Keys[i] = []byte(g.key)
		}
		var res *replkvv1.GetManyResponse
		err := r.c.round(ctx, "Get", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
			res, err = s.GetMany(ctx, req, opts...)
			return err
		})
		n := len(res.GetResults())
		if err == nil && (n == 0 || n > len(gets)) {
			err = &kv.Error{Err: fmt.Errorf("%w: %d results for %d keys", kv.ErrCorrupt, n, len(gets))}
		}
		if err != nil {
			for _, g := range gets {
				e := *err.(*kv.Error) // as round's are
				g.done <- gotten{err: &e}
			}
			return
		}
		for i, m := range res.GetResults() {
			gets[i].done <- answer(m)
		}
		gets = gets[n:]
	}
}

func answer(m *replkvv1.GetManyResult) gotten {
	switch {
	case len(m.GetError()) > 0:
		return gotten{err: restore(m.GetError())}
	case m.GetItem() == nil:
		return gotten{err: &kv.Error{Op: "Get", Outcome: kv.OutcomeNotDone, Err: kv.ErrNotFound}}
	}
	return gotten{item: itemFromProto(m.GetItem(), false)}
}
