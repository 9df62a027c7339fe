package watch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
)

// world is a state machine, and a hub over it.
type world struct {
	t   testing.TB
	s   *store.Store
	hub *Hub
	src *source
	ctx context.Context // ends with the hub

	mu         sync.Mutex // protects the fields below
	index, seq uint64
}

// source is the store, with a gate behind it.
type source struct {
	*store.Store
	mu sync.Mutex // protects the field below
	// after is called when a watcher, not the hub, has read a page.
	after func()
}

func (s *source) Changes(q store.ChangesQuery) (store.ChangesPage, error) {
	page, err := s.Store.Changes(q)
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if after != nil && q.MaxEvents == pageEvents {
		after()
	}
	return page, err
}

// once has fn run when a watcher has next read a page, before it does anything
// about it.
func (s *source) once(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = func() {
		s.mu.Lock()
		s.after = nil
		s.mu.Unlock()
		fn()
	}
}

const pageEvents = 128 // of a watcher; the hub's are larger

var session = command.SessionID{1}

func newWorld(t testing.TB, l Limits) *world {
	t.Helper()
	s, err := store.Open("state", store.Options{FS: disk.NewMem(), OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, s: s, src: &source{Store: s}}
	w.hub = NewHub(w.src, l)
	ctx, cancel := context.WithCancelCause(context.Background())
	w.ctx = ctx
	done := make(chan struct{})
	go func() { defer close(done); w.hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel(kv.ErrClosed)
		<-done
		w.nobodyLeft()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.apply(command.NoSession, &command.Op{Kind: command.OpenSession, Session: session, Member: []byte("m"), Ordinal: 1,
		Starts: []command.Start{{Number: 1, Boot: 7}}})
	return w
}

// nobodyLeft checks that the hub holds nothing once all loops have ended.
func (w *world) nobodyLeft() {
	w.t.Helper()
	w.wait("the watchers to be gone", func() bool { return w.hub.Watchers() == 0 })
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.takeLocked()
	if n, b := len(w.hub.members), w.hub.bytes.Load(); n != 0 || b != 0 || len(w.hub.ranges.exact) != 0 || len(w.hub.ranges.wide) != 0 {
		w.t.Errorf("%d watchers and %d bytes are left", n, b)
	}
}

func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			w.t.Fatalf("waiting for %s", what)
		}
	}
}

// apply applies an entry of one batch and tells the hub.
func (w *world) apply(id command.SessionID, ops ...*command.Op) kv.Revision {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	seq := uint64(0)
	if id != command.NoSession {
		w.seq++
		seq = w.seq
	}
	b := command.AppendBatchHeader(nil, id, seq, max(seq, 1)-1, len(ops))
	for _, op := range ops {
		b = command.AppendOp(b, op)
	}
	e := store.Entry{Index: w.index, Term: 1, Data: command.AppendEnvelope(nil, command.Envelope{TimeMillis: w.index, Batches: [][]byte{b}})}
	res, err := w.s.Apply([]store.Entry{e})
	if err != nil {
		w.t.Fatal(err)
	}
	if got := res[0].Batches[0]; got.Status != command.Applied {
		w.t.Fatalf("batch status %v", got.Status)
	}
	w.hub.Published()
	return w.s.State().Revision
}

func (w *world) set(key, value string) kv.Revision {
	w.t.Helper()
	return w.apply(session, &command.Op{Kind: command.Set, Key: []byte(key), Value: []byte(value)})
}

// fill sets n keys in one entry.
func (w *world) fill(prefix string, n int) kv.Revision {
	w.t.Helper()
	var ops []*command.Op
	for i := range n {
		ops = append(ops, &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "%s%04d", prefix, i), Value: []byte("v")})
	}
	return w.apply(session, ops...)
}

func (w *world) removeAll(prefix string) kv.Revision {
	w.t.Helper()
	from, to, _ := kv.Prefix(prefix).Bounds()
	return w.apply(session, &command.Op{Kind: command.DeleteRange, Key: []byte(from), To: []byte(to)})
}

func (w *world) compact(rev kv.Revision) {
	w.t.Helper()
	w.apply(command.NoSession, &command.Op{Kind: command.Compact, Revision: uint64(rev)})
	if err := w.s.Sweep(); err != nil {
		w.t.Fatal(err)
	}
}

// puller is a watch whose changes the test pulls.
type puller struct {
	*world
	next func() (kv.Change, error, bool)
	stop func()
}

func (w *world) watch(o Options) *puller { return w.watchUntil(context.Background(), o) }

func (w *world) watchUntil(ctx context.Context, o Options) *puller {
	seq := func(yield func(kv.Change, error) bool) {
		if err := w.hub.Watch(ctx, w.ctx, o, func(c kv.Change) bool { return yield(c, nil) }); err != nil {
			yield(kv.Change{}, err)
		}
	}
	next, stop := iter.Pull2(seq)
	w.t.Cleanup(stop)
	return &puller{w, next, stop}
}

func (p *puller) take() kv.Change {
	p.t.Helper()
	c, err, ok := p.next()
	if err != nil || !ok {
		p.t.Fatalf("the watch ended: %v", err)
	}
	return c
}

func (p *puller) revisions(want ...kv.Revision) {
	p.t.Helper()
	for _, rev := range want {
		if c := p.take(); c.Revision != rev || c.Progress {
			p.t.Fatalf("got %+v, want revision %d", c, rev)
		}
	}
}

func (p *puller) ends(want error) error {
	p.t.Helper()
	c, err, ok := p.next()
	if !ok || !errors.Is(err, want) {
		p.t.Fatalf("got %+v, %v, %v; want %v", c, err, ok, want)
	}
	return err
}

// attachedNow waits until so many are attached.
func (w *world) attachedNow(n int) {
	w.t.Helper()
	w.wait(fmt.Sprintf("%d to be attached", n), func() bool { return w.hub.attached.Load() == int64(n) })
}

// background runs a watch on a goroutine, as fast as it can.
type background struct {
	mu      sync.Mutex // protects the fields below
	changes []kv.Change
	err     error
	done    chan struct{}
}

func (w *world) background(ctx context.Context, o Options) *background {
	b := &background{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		err := w.hub.Watch(ctx, w.ctx, o, func(c kv.Change) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.changes = append(b.changes, c)
			return true
		})
		b.mu.Lock()
		defer b.mu.Unlock()
		b.err = err
	}()
	return b
}

func (b *background) at() kv.Revision {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.changes) == 0 {
		return 0
	}
	return b.changes[len(b.changes)-1].Revision
}
