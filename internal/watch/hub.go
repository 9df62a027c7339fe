package watch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

// Source is the history: a *store.Store.
type Source interface {
	Changes(q store.ChangesQuery) (store.ChangesPage, error)
}

// Limits bound the memory of a hub. A zero field is the default.
type Limits struct {
	Watchers   int   // at once; one more is ErrOverloaded. The default is 16,384
	QueueLen   int   // of a watcher. The default is 128
	QueueBytes int64 // of the events in all queues, each counted once. The default is 64 MiB
	// PageEvents and PageBytes are where one read of the history ends, by a watcher
	// that is behind; the hub, which is alone, reads eight times as much at once. One
	// revision may be larger. The defaults are 128 and 64 KiB.
	PageEvents, PageBytes int
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Watchers, 16<<10)
	def(&l.QueueLen, 128)
	def(&l.PageEvents, 128)
	def(&l.PageBytes, 64<<10)
	if l.QueueBytes == 0 {
		l.QueueBytes = 64 << 20
	}
	return l
}

// scanBytes is how much of the index one read looks at, wanted or not.
const scanBytes = 1 << 20

// query returns what reads a page after a revision.
func (l *Limits) query(after kv.Revision, want func(store.IndexedChange) store.Wanted) store.ChangesQuery {
	return store.ChangesQuery{After: after, MaxEvents: l.PageEvents, MaxBytes: l.PageBytes, MaxScanned: scanBytes, Want: want}
}

// Hub feeds the attached watchers. Its methods may be called from any goroutine.
type Hub struct {
	src    Source
	limits Limits
	wake   chan struct{} // capacity 1: there may be something to do

	watchers atomic.Int64  // attached and behind
	attached atomic.Int64  // a copy of len(members), for who must not wait for mu
	demoted  atomic.Uint64 // so often was a queue full
	bytes    atomic.Int64  // of the events in queues

	// mu protects the fields below. It is held while a page is read, so that
	// whoever attaches sees all of it or nothing: no gap, no duplicate. Nobody
	// takes it but the hub's goroutine and watchers that attach.
	mu sync.Mutex
	// at: the attached watchers were given all their events up to here. It means
	// nothing while there is none.
	at      kv.Revision
	members map[*watcher]struct{}
	ranges  ranges
	ended   bool // nobody attaches any more

	// requests are what watchers want of the hub without waiting for it. Each
	// watcher has at most one of a kind.
	requests struct {
		sync.Mutex
		gone, asks []*watcher
	}
}

// NewHub returns a hub over a history. Nothing happens before Run.
func NewHub(src Source, l Limits) *Hub {
	return &Hub{src: src, limits: l.withDefaults(), wake: make(chan struct{}, 1), members: map[*watcher]struct{}{}}
}

// Published tells that the history has grown. It does not block.
func (h *Hub) Published() {
	if h.attached.Load() > 0 {
		h.nudge()
	}
}

func (h *Hub) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Watchers returns how many there are.
func (h *Hub) Watchers() int { return int(h.watchers.Load()) }

// Demotions returns how often a watcher was too slow for its queue.
func (h *Hub) Demotions() uint64 { return h.demoted.Load() }

// Run feeds the watchers until ctx ends. It sleeps while none is attached.
func (h *Hub) Run(ctx context.Context) {
	defer h.end()
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		for h.step() && ctx.Err() == nil {
		}
	}
}

func (h *Hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for w := range h.members {
		h.detachLocked(w, h.at)
	}
}

// step reads one page and deals it out. It says whether more is there.
func (h *Hub) step() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	asks := h.takeLocked()
	if len(h.members) == 0 {
		return false
	}
	m := matches{hub: h}
	q := h.limits.query(h.at, m.want)
	q.MaxEvents, q.MaxBytes, q.Compacted = 8*q.MaxEvents, 8*q.MaxBytes, true
	page, err := h.src.Changes(q)
	if err != nil {
		// Compacted, closed or damaged: each finds that out by itself, from where
		// it stands.
		for w := range h.members {
			h.detachLocked(w, h.at)
		}
		return false
	}
	for _, c := range page.Changes {
		h.dealLocked(c, m.of[c.Revision])
	}
	h.at = page.Through
	for _, w := range asks {
		// Without room for it there is no need: events wait.
		w.push(&shared{Change: kv.Change{Revision: max(h.at, w.after), Progress: true}, hub: h})
	}
	return page.Through < page.Newest
}

// takeLocked lets go of watchers whose loops have ended, and returns those who
// ask how far they are.
func (h *Hub) takeLocked() (asks []*watcher) {
	h.requests.Lock()
	gone := h.requests.gone
	asks, h.requests.gone, h.requests.asks = h.requests.asks, nil, nil
	for _, w := range asks {
		w.asked = false
	}
	h.requests.Unlock()
	for _, w := range gone {
		if _, ok := h.members[w]; ok {
			h.detachLocked(w, h.at)
		}
	}
	return asks
}

// ask has w told, through its queue, how far it is.
func (h *Hub) ask(w *watcher) {
	h.requests.Lock()
	if !w.asked {
		w.asked = true
		h.requests.asks = append(h.requests.asks, w)
	}
	h.requests.Unlock()
	h.nudge()
}

// matches gathers who wants what of a page.
type matches struct {
	hub *Hub
	of  map[kv.Revision][]*watcher
}

func (m *matches) want(c store.IndexedChange) store.Wanted {
	want := store.Skip
	m.hub.ranges.each(c.Key, func(w *watcher) {
		if c.Revision <= w.after || !w.o.wantsKind(c.Kind) {
			return
		}
		want = max(want, w.o.wanted())
		if w.marked != c.Revision { // once per revision
			w.marked = c.Revision
			if m.of == nil {
				m.of = map[kv.Revision][]*watcher{}
			}
			m.of[c.Revision] = append(m.of[c.Revision], w)
		}
	})
	return want
}

// dealLocked gives a change to those who want something of it.
func (h *Hub) dealLocked(c kv.Change, to []*watcher) {
	s := &shared{Change: c, size: sizeOf(&c), common: len(to) > 1, hub: h}
	s.refs.Store(1) // ours, until it is dealt out
	room := h.bytes.Add(s.size) <= h.limits.QueueBytes
	for _, w := range to {
		if _, ok := h.members[w]; ok && (!room || !w.push(s)) && h.detachLocked(w, c.Revision-1) {
			h.demoted.Add(1)
		}
	}
	s.release()
}

// attach makes w one that the hub feeds, from pos on, up to which w has been
// given everything. It says no if the hub is further: w must read more first.
func (h *Hub) attach(w *watcher, pos kv.Revision) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended || len(h.members) > 0 && pos < h.at:
		return false
	case len(h.members) == 0:
		h.at = pos
	}
	w.after, w.marked = pos, 0
	w.begin()
	h.members[w] = struct{}{}
	h.attached.Store(int64(len(h.members)))
	h.ranges.add(w)
	h.nudge() // what came since w has read woke nobody
	return true
}

// detachLocked makes w, which was given everything up to at, one that is behind.
// It says no if w's loop has ended.
func (h *Hub) detachLocked(w *watcher, at kv.Revision) bool {
	delete(h.members, w)
	h.attached.Store(int64(len(h.members)))
	h.ranges.remove(w)
	return w.drop(max(at, w.after))
}

// enter counts a watcher.
func (h *Hub) enter() error {
	if n := h.watchers.Add(1); n > int64(h.limits.Watchers) {
		h.watchers.Add(-1)
		return fmt.Errorf("%w: %d watchers", kv.ErrOverloaded, n-1)
	}
	return nil
}

// leave is called when w's loop ends. It does not wait for the hub, which may be
// reading.
func (h *Hub) leave(w *watcher) {
	h.watchers.Add(-1)
	if w.drop(0) { // it takes nothing any more
		h.requests.Lock()
		h.requests.gone = append(h.requests.gone, w)
		h.requests.Unlock()
		h.nudge()
	}
}
