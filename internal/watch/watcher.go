package watch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

// Options say what a watcher wants.
type Options struct {
	Range kv.Range
	kv.WatchOptions
	// Shared: the changes are read only, by who has them; several may have them.
	Shared bool
}

func (o *Options) wantsKind(k store.ChangeKind) bool {
	return o.Wants(kindOf(k))
}

func kindOf(k store.ChangeKind) kv.EventKind {
	if k == store.Put {
		return kv.EventPut
	}
	return kv.EventDelete
}

func (o *Options) wanted() store.Wanted {
	if o.Previous {
		return store.WantPrevious
	}
	return store.WantEvent
}

// want is for a watcher that reads alone.
func (o *Options) want(c store.IndexedChange) store.Wanted {
	if !o.Range.Contains(string(c.Key)) || !o.wantsKind(c.Kind) {
		return store.Skip
	}
	return o.wanted()
}

// watcher is one loop over a watch. Its caller's goroutine runs it; the hub
// fills its queue.
type watcher struct {
	hub *Hub
	o   Options
	// pos is how far the body of the loop has been given everything. Only the
	// caller's goroutine uses it.
	pos   kv.Revision
	yield func(kv.Change) bool
	due   *time.Timer // fires when a progress notification is due; nil if none is asked for

	ready chan struct{} // capacity 1: the queue is not empty, or the state has changed

	// Guarded by hub.mu.
	after  kv.Revision // given before it attached
	marked kv.Revision // the newest revision of which it was found to want something

	asked bool // in hub.requests, which guards it

	mu       sync.Mutex // protects the fields below; hub.mu comes first
	attached bool
	queue    []*shared // invariant: empty while not attached, and at most Limits.QueueLen
	// resume is how far the watcher was given everything when it was last detached,
	// but for what was dropped from the queue: also if nothing in its range has
	// happened for long, and history up to there is compacted.
	resume kv.Revision
}

// shared is a change in the queues of several watchers.
type shared struct {
	kv.Change
	size   int64
	common bool // more than one has it: its memory must be copied
	hub    *Hub
	refs   atomic.Int64 // queues that hold it, and who takes it out
}

func (s *shared) release() {
	if s.refs.Add(-1) == 0 {
		s.hub.bytes.Add(-s.size)
	}
}

// eventBytes is about what an event takes beside its key and values.
const eventBytes = 128

func sizeOf(c *kv.Change) (n int64) {
	for i := range c.Events {
		e := &c.Events[i]
		n += int64(eventBytes + len(e.Item.Key) + len(e.Item.Value))
		if e.Prev != nil {
			n += int64(eventBytes + len(e.Prev.Value))
		}
	}
	return n
}

// push appends to the queue, unless it is full.
func (w *watcher) push(s *shared) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.attached || len(w.queue) >= w.hub.limits.QueueLen {
		return false
	}
	s.refs.Add(1)
	w.queue = append(w.queue, s)
	w.signal()
	return true
}

// pop takes the oldest change of the queue; nil if there is none. It says no if
// the watcher is not attached any more.
func (w *watcher) pop() (s *shared, attached bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.attached {
		w.pos = max(w.pos, w.resume)
		return nil, false
	}
	if len(w.queue) == 0 {
		return nil, true
	}
	s = w.queue[0]
	w.queue[0] = nil
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil // an idle watcher holds nothing
	}
	return s, true
}

func (w *watcher) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attached = true
}

// drop empties the queue, until begin. at is how far the watcher was given
// everything. It says whether the watcher was attached.
func (w *watcher) drop(at kv.Revision) (was bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was, w.attached, w.resume = w.attached, false, at
	if len(w.queue) > 0 {
		w.resume = w.queue[0].Revision - 1
	}
	for _, s := range w.queue {
		s.release()
	}
	w.queue = nil
	w.signal()
	return was
}

func (w *watcher) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Watch calls yield with each change after o.After that o asks for, in order,
// until yield says false (nil), ctx ends (its cause), stop ends (its cause), or
// the history cannot be read, as after a compaction.
func (h *Hub) Watch(ctx, stop context.Context, o Options, yield func(kv.Change) bool) error {
	if err := h.enter(); err != nil {
		return err
	}
	w := &watcher{hub: h, o: o, pos: o.After, yield: yield, ready: make(chan struct{}, 1)}
	defer h.leave(w)
	if o.Progress > 0 {
		w.due = time.NewTimer(o.Progress)
		defer w.due.Stop()
	}
	for {
		switch more, err := w.catchUp(ctx, stop); {
		case err != nil:
			return err
		case !more:
			return nil
		}
		if !h.attach(w, w.pos) {
			continue
		}
		switch more, err := w.follow(ctx, stop); {
		case err != nil:
			return err
		case !more:
			return nil
		}
	}
}

// ended returns the cause of whichever context is done.
func ended(ctx, stop context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return context.Cause(stop)
}

// catchUp reads history until there is no more. It says false if the body has
// broken out.
func (w *watcher) catchUp(ctx, stop context.Context) (more bool, err error) {
	for {
		if err := ended(ctx, stop); err != nil {
			return false, err
		}
		page, err := w.hub.src.Changes(w.hub.limits.query(w.pos, w.o.want))
		if err != nil {
			return false, err
		}
		for i := range page.Changes {
			if err := ended(ctx, stop); err != nil {
				return false, err
			}
			if !w.deliver(page.Changes[i]) {
				return false, nil
			}
		}
		w.pos = page.Through
		if w.isDue() && !w.deliver(kv.Change{Revision: w.pos, Progress: true}) {
			return false, nil
		}
		if page.Through == page.Newest {
			return true, nil
		}
	}
}

// follow delivers what the hub queues, until the watcher is demoted.
func (w *watcher) follow(ctx, stop context.Context) (more bool, err error) {
	var due <-chan time.Time
	if w.due != nil {
		due = w.due.C
	}
	for {
		if err := ended(ctx, stop); err != nil {
			return false, err
		}
		s, attached := w.pop()
		switch {
		case !attached:
			return true, nil
		case s != nil:
			if !w.deliver(w.own(s)) {
				return false, nil
			}
			continue
		}
		select {
		case <-w.ready:
		case <-due:
			// The answer comes through the queue, behind all events that it speaks of.
			w.hub.ask(w)
			w.due.Reset(w.o.Progress) // should it be lost
		case <-ctx.Done():
		case <-stop.Done():
		}
	}
}

// isDue says whether a progress notification is.
func (w *watcher) isDue() bool {
	if w.due == nil {
		return false
	}
	select {
	case <-w.due.C:
		return true
	default:
		return false
	}
}

func (w *watcher) deliver(c kv.Change) bool {
	w.pos = c.Revision
	more := w.yield(c)
	if w.due != nil {
		w.due.Reset(w.o.Progress)
	}
	return more
}

// own makes a change out of a shared one that belongs to the watcher, unless it is to
// be read only, with the events that it wants.
func (w *watcher) own(s *shared) kv.Change {
	defer s.release()
	out := kv.Change{Revision: s.Revision, Progress: s.Progress}
	copies := s.common && !w.o.Shared
	unwanted := func(e kv.Event) bool {
		return !w.o.Range.Contains(e.Item.Key) || !w.o.Wants(e.Kind) || e.Prev != nil && !w.o.Previous
	}
	if !copies && !slices.ContainsFunc(s.Events, unwanted) {
		out.Events = s.Events
		return out
	}
	for _, e := range s.Events {
		if !w.o.Range.Contains(e.Item.Key) || !w.o.Wants(e.Kind) {
			continue
		}
		if copies {
			e.Item.Value = clone(e.Item.Value)
		}
		switch {
		case !w.o.Previous:
			e.Prev = nil
		case copies && e.Prev != nil:
			prev := *e.Prev
			prev.Value = clone(prev.Value)
			e.Prev = &prev
		}
		out.Events = append(out.Events, e)
	}
	return out
}

// clone copies b; empty is not nil.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
