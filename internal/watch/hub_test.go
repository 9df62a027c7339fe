package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

func all(after kv.Revision) Options {
	return Options{Range: kv.All(), WatchOptions: kv.WatchOptions{After: after}}
}

func prefix(p string, after kv.Revision) Options {
	return Options{Range: kv.Prefix(p), WatchOptions: kv.WatchOptions{After: after}}
}

// A watcher reads history first, then what the hub gives it.
func TestHistoryThenLive(t *testing.T) {
	w := newWorld(t, Limits{})
	for i := range 10 {
		w.set("k", fmt.Sprint(i))
	}
	p := w.watch(all(5))
	p.revisions(6, 7, 8, 9, 10, 11)
	w.set("k", "live")
	p.revisions(12)
	w.attachedNow(1)
	w.set("k", "live")
	w.set("k", "live")
	p.revisions(13, 14)
	if w.hub.Demotions() != 0 {
		t.Error("a fast watcher was demoted")
	}
}

// What comes between a watcher's last read and its attaching is neither left out
// nor told twice, whether the hub has told others of it or has not seen it.
func TestBetweenReadingAndAttaching(t *testing.T) {
	for _, others := range []bool{false, true} {
		for n := range 3 {
			t.Run(fmt.Sprintf("others=%v, %d revisions", others, n), func(t *testing.T) {
				w := newWorld(t, Limits{})
				w.set("k", "0")
				attached := 1
				if others {
					w.background(t.Context(), all(1))
					w.attachedNow(1)
					attached = 2
				}
				w.src.once(func() {
					for range n {
						w.set("k", "between")
					}
					if others {
						w.wait("the hub", func() bool { return w.hub.position() == w.s.State().Revision })
					}
				})
				b := w.background(t.Context(), all(1))
				last := kv.Revision(2 + n)
				w.wait("what came between", func() bool { return b.at() == last })
				w.attachedNow(attached)
				w.set("k", "after")
				w.wait("what comes after", func() bool { return b.at() == last+1 })
				b.mu.Lock()
				defer b.mu.Unlock()
				for i, c := range b.changes {
					if c.Revision != kv.Revision(2+i) {
						t.Fatalf("got %+v", b.changes)
					}
				}
			})
		}
	}
}

// The hub is behind a watcher that attaches: what it reads next is known there.
func TestAttachingAheadOfTheHub(t *testing.T) {
	w := newWorld(t, Limits{})
	a := w.background(t.Context(), all(1))
	w.attachedNow(1)
	w.hub.mu.Lock() // it reads nothing meanwhile
	for range 5 {
		w.set("k", "v")
	}
	b := w.background(t.Context(), all(1))
	w.wait("the second to read history", func() bool { return b.at() == 6 })
	w.hub.mu.Unlock()
	w.attachedNow(2)
	w.set("k", "v")
	for _, x := range []*background{a, b} {
		w.wait("the last", func() bool { return x.at() == 7 })
		x.mu.Lock()
		if len(x.changes) != 6 {
			t.Errorf("got %+v", x.changes)
		}
		x.mu.Unlock()
	}
}

// A watcher that is too slow for its queue loses nothing and sees nothing twice,
// and attaches again.
func TestSlowWatcherLosesNothing(t *testing.T) {
	w := newWorld(t, Limits{QueueLen: 3, PageEvents: 4})
	slow := w.watch(all(1))
	fast := w.background(t.Context(), all(1))
	w.set("k", "first")
	slow.revisions(2)
	w.wait("the fast one", func() bool { return fast.at() == 2 })
	for rev := kv.Revision(3); rev < 60; {
		w.attachSlow(slow, &rev)
		demoted := w.hub.Demotions()
		last := rev + 11
		for w.s.State().Revision < last {
			w.set("k", "more")
		}
		w.wait("the slow one to be demoted", func() bool { return w.hub.Demotions() > demoted })
		for ; rev <= last; rev++ {
			slow.revisions(rev)
		}
	}
}

// attachSlow makes the slow watcher, which has taken all there is, attach: it
// must be pulled for that, and so is given one change at least.
func (w *world) attachSlow(p *puller, rev *kv.Revision) {
	w.t.Helper()
	done := make(chan kv.Change)
	go func() { c, _, _ := p.next(); done <- c }()
	w.wait("the slow one to attach", func() bool { return w.hub.attached.Load() == 2 })
	w.set("k", "one")
	if c := <-done; c.Revision != *rev {
		w.t.Fatalf("got %d, want %d", c.Revision, *rev)
	}
	*rev++
}

// A watcher whose queue is full, of a range in which nothing had happened for
// long: compaction has passed what it last delivered, but nothing of its own.
func TestDemotedAfterACompactionThatTookNothing(t *testing.T) {
	w := newWorld(t, Limits{QueueLen: 2})
	taken := make(chan kv.Change)
	p := w.watch(prefix("rare", 1))
	go func() { c, _, _ := p.next(); taken <- c }()
	w.attachedNow(1)
	for range 20 {
		w.set("often", "v")
	}
	first := w.set("rare", "1")
	if c := <-taken; c.Revision != first {
		t.Fatalf("got %+v", c)
	}
	// The hub is past what follows, the watcher has seen nothing of it.
	for range 20 {
		w.set("often", "v")
	}
	w.wait("the hub", func() bool { return w.hub.position() == w.s.State().Revision })
	w.compact(w.s.State().Revision)
	for i := range 5 { // more than its queue holds
		w.set("rare", fmt.Sprint(i))
	}
	w.wait("the watcher to be demoted", func() bool { return w.hub.Demotions() == 1 })
	at := w.s.State().Revision
	p.revisions(at-4, at-3, at-2, at-1, at)
}

func (h *Hub) position() kv.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

// Compaction past a watcher that has not kept up is an error that says where the
// history begins. What was in the queue is not lost for it.
func TestCompactedUnderAWatcher(t *testing.T) {
	w := newWorld(t, Limits{QueueLen: 4})
	behind := w.watch(all(1))
	w.set("k", "1")
	behind.revisions(2)
	for range 10 {
		w.set("k", "v")
	}
	w.compact(8)
	// It had read the page before, or had not: nothing is left out silently.
	var last kv.Revision = 2
	for {
		c, err, _ := behind.next()
		if err == nil {
			if c.Revision != last+1 {
				t.Fatalf("%d after %d", c.Revision, last)
			}
			if last++; last == w.s.State().Revision {
				break
			}
			continue
		}
		gone, ok := errors.AsType[*kv.CompactedError](err)
		if !ok || gone.Compacted != 8 || gone.Revision != last+1 {
			t.Fatalf("after %d: %v", last, err)
		}
		break
	}
	w.watch(all(7)).ends(kv.ErrCompacted)
	w.watch(all(8)).revisions(9, 10, 11, 12)
	w.watch(all(99)).ends(kv.ErrFutureRevision)
}

// A hub that compaction overtakes has each of its watchers told.
func TestCompactedUnderTheHub(t *testing.T) {
	w := newWorld(t, Limits{})
	ps := []*background{w.background(t.Context(), all(1)), w.background(t.Context(), prefix("none", 1))}
	w.attachedNow(2)
	w.hub.mu.Lock() // it reads nothing meanwhile
	for range 10 {
		w.set("k", "v")
	}
	w.compact(6)
	w.hub.mu.Unlock()
	for i, p := range ps {
		<-p.done
		if gone, ok := errors.AsType[*kv.CompactedError](p.err); !ok || gone.Compacted != 6 || gone.Revision != 2 || len(p.changes) != 0 {
			t.Errorf("watcher %d: %v after %d changes", i, p.err, len(p.changes))
		}
	}
}

// A compaction close behind the newest revision ends no watch that keeps up, though the
// hub has not read that far yet: history that is compacted is still there.
func TestCompactedBeforeTheHubHasRead(t *testing.T) {
	w := newWorld(t, Limits{})
	b := w.background(t.Context(), all(1))
	w.attachedNow(1)
	w.hub.mu.Lock() // it reads nothing meanwhile
	for range 10 {
		w.set("k", "v")
	}
	w.apply(command.NoSession, &command.Op{Kind: command.Compact, Revision: 11})
	w.hub.mu.Unlock()
	w.wait("all changes", func() bool { return b.at() == 11 })
	if len(b.changes) != 10 {
		t.Errorf("%d changes", len(b.changes))
	}
	w.watch(all(5)).ends(kv.ErrCompacted) // who begins there
}

// The events of one revision are one Change, however many, live and from
// history, and each watcher has those of its range.
func TestOneRevisionIsOneChange(t *testing.T) {
	w := newWorld(t, Limits{PageEvents: 2, PageBytes: 10})
	live, part, exact := w.background(t.Context(), all(1)), w.background(t.Context(), prefix("k001", 1)),
		w.background(t.Context(), Options{Range: kv.Key("k0500"), WatchOptions: kv.WatchOptions{After: 1}})
	w.attachedNow(3)
	filled := w.fill("k", 600)
	removed := w.removeAll("k")
	late := w.background(t.Context(), all(filled))
	for what, c := range map[string]struct {
		b    *background
		want int
	}{"live": {live, 600}, "part": {part, 10}, "exact": {exact, 1}, "late": {late, 600}} {
		w.wait(what, func() bool { return c.b.at() == removed })
		c.b.mu.Lock()
		last, before := c.b.changes[len(c.b.changes)-1], kv.Revision(1)
		for _, ch := range c.b.changes {
			if ch.Revision <= before {
				t.Errorf("%s: revision %d after %d", what, ch.Revision, before)
			}
			before = ch.Revision
		}
		c.b.mu.Unlock()
		if len(last.Events) != c.want {
			t.Errorf("%s: %d events of revision %d, want %d", what, len(last.Events), last.Revision, c.want)
		}
	}
}

// Progress never overtakes an event: it travels through the same queue, and
// speaks of what was queued before (etcd #15220, #17507).
func TestProgressDoesNotOvertakeEvents(t *testing.T) {
	w := newWorld(t, Limits{QueueLen: 64})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := prefix("rare", 1)
	o.Progress = time.Nanosecond // as often as it can be
	b := w.background(ctx, o)
	var last kv.Revision
	for i := range 2000 {
		if i%7 == 0 {
			last = w.set("rare", fmt.Sprint(i))
		} else {
			w.set("often", "v")
		}
		if i%5 == 0 { // else there is progress at the end only
			at := w.s.State().Revision
			w.wait("progress", func() bool { return b.at() >= at })
		}
	}
	end := w.s.State().Revision
	w.wait("the last event", func() bool { return b.at() >= end })
	cancel()
	<-b.done
	checkOrder(t, b.changes, 2, last)
	progress := 0
	for _, c := range b.changes {
		if c.Progress {
			progress++
		}
	}
	if progress == 0 {
		t.Error("no progress: the test shows nothing")
	}
}

// checkOrder demands that revisions rise, and that each event is above all
// progress before it; the events are those of every seventh revision.
func checkOrder(t *testing.T, changes []kv.Change, first, last kv.Revision) {
	t.Helper()
	next, promised := first, kv.Revision(0)
	for _, c := range changes {
		if c.Progress {
			if c.Revision < promised || c.Revision >= next && next <= last {
				t.Fatalf("progress %d: before it %d was promised; the event of %d has not come", c.Revision, promised, next)
			}
			promised = c.Revision
			continue
		}
		if c.Revision != next || c.Revision <= promised {
			t.Fatalf("event of %d, want %d; %d was promised", c.Revision, next, promised)
		}
		next += 7
	}
	if next <= last {
		t.Fatalf("the event of %d never came", next)
	}
}

// Progress comes when nothing else does, once per interval.
func TestProgressInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Limits{})
		ctx, cancel := context.WithCancel(t.Context())
		o := prefix("k", 1)
		o.Progress = time.Second
		b := w.background(ctx, o)
		w.fill("other", 10)
		time.Sleep(5*time.Second + 500*time.Millisecond)
		for range 10 { // events, twice per interval
			w.set("k", "v")
			time.Sleep(time.Second / 2)
		}
		cancel()
		<-b.done
		var kinds []bool
		for _, c := range b.changes {
			kinds = append(kinds, c.Progress)
		}
		want := []bool{true, true, true, true, true, false, false, false, false, false, false, false, false, false, false}
		if !reflect.DeepEqual(kinds, want) || b.changes[0].Revision != 11 {
			t.Errorf("got %+v", b.changes)
		}
		w.nobodyLeft()
	})
}

// A loop's end is noticed wherever it stands, and leaves nothing behind.
func TestEnds(t *testing.T) {
	w := newWorld(t, Limits{QueueLen: 4})
	w.set("k", "v")
	// Broken out of while it reads history, and while attached with a full queue.
	history := w.watch(all(1))
	history.revisions(2)
	history.stop()
	live := w.watch(all(2))
	got := make(chan kv.Change)
	go func() { c, _, _ := live.next(); got <- c }()
	w.attachedNow(1)
	w.set("k", "v")
	<-got
	w.set("k", "v")
	w.wait("something to wait in the queue", func() bool { return w.hub.bytes.Load() > 0 })
	live.stop()
	w.nobodyLeft()

	ctx, cancel := context.WithCancelCause(t.Context())
	b := w.background(ctx, all(1))
	w.wait("the watch", func() bool { return b.at() == 4 })
	cause := errors.New("enough")
	cancel(cause)
	<-b.done
	if b.err != cause {
		t.Errorf("ctx ended: %v", b.err)
	}
}

// When the member stops, every watch ends with the cause.
func TestTheHubStops(t *testing.T) {
	var bs []*background
	t.Run("watch", func(t *testing.T) {
		w := newWorld(t, Limits{})
		w.set("k", "v")
		for range 5 {
			bs = append(bs, w.background(context.Background(), all(1)))
		}
		w.attachedNow(5)
	})
	for _, b := range bs {
		<-b.done
		if b.err != kv.ErrClosed {
			t.Errorf("got %v", b.err)
		}
	}
}

func TestTooManyWatchers(t *testing.T) {
	w := newWorld(t, Limits{Watchers: 2})
	ctx, cancel := context.WithCancel(t.Context())
	a, b := w.background(ctx, all(1)), w.background(ctx, all(1))
	w.attachedNow(2)
	w.watch(all(1)).ends(kv.ErrOverloaded)
	cancel()
	<-a.done
	<-b.done
	w.set("k", "v")
	w.watch(all(1)).revisions(2)
}

// What waits in all queues together is bounded.
func TestQueuedBytesAreBounded(t *testing.T) {
	const limit = 10_000
	w := newWorld(t, Limits{QueueBytes: limit})
	var ps []*puller
	started := make(chan struct{}, 10)
	for range 10 {
		p := w.watch(all(1))
		ps = append(ps, p)
		go func() { p.next(); started <- struct{}{} }()
	}
	w.attachedNow(10)
	w.set("k", "first")
	for range 10 {
		<-started
	}
	value := string(make([]byte, 1000))
	for range 30 { // nobody takes anything
		w.set("k", value)
		w.wait("the hub", func() bool { return w.hub.attached.Load() == 0 || w.hub.position() == w.s.State().Revision })
		if b := w.hub.bytes.Load(); b > limit {
			t.Fatalf("%d bytes wait", b)
		}
	}
	if w.hub.Demotions() != 10 {
		t.Errorf("%d were demoted", w.hub.Demotions())
	}
	for _, p := range ps {
		for rev := kv.Revision(3); rev <= 32; rev++ {
			p.revisions(rev)
		}
	}
}

// A value that one watcher changes is no other's, and one that only one watcher
// has is not copied.
func TestValuesAreTheReceivers(t *testing.T) {
	w := newWorld(t, Limits{})
	o := all(1)
	o.Previous = true
	var ps []*puller
	for range 3 {
		ps = append(ps, w.watch(o))
	}
	got := make(chan kv.Change, 3)
	pull := func() {
		for _, p := range ps {
			go func() { c, _, _ := p.next(); got <- c }()
		}
	}
	pull()
	w.attachedNow(3)
	for i := range 3 {
		w.set("k", "value")
		for range ps {
			e := (<-got).Events[0]
			if string(e.Item.Value) != "value" || i > 0 && string(e.Prev.Value) != "value" {
				t.Fatalf("got %q", e.Item.Value)
			}
			clear(e.Item.Value)
			if e.Prev != nil {
				clear(e.Prev.Value)
			}
		}
		if i < 2 {
			pull()
		}
	}
}

// Who only reads gets no copy.
func TestSharedValues(t *testing.T) {
	w := newWorld(t, Limits{})
	o := all(1)
	o.Shared, o.Previous = true, true
	got := make(chan kv.Change, 2)
	var ps []*puller
	for range 2 {
		p := w.watch(o)
		ps = append(ps, p)
		go func() { c, _, _ := p.next(); got <- c }()
	}
	w.attachedNow(len(ps))
	w.set("k", "value")
	if a, b := <-got, <-got; &a.Events[0] != &b.Events[0] {
		t.Error("two copies")
	}
}

// Random watchers over a random history, some slow, with a tiny queue and pages:
// each sees exactly the events of its range and kinds, whole and in order.
func TestRandomWatchers(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 3 // each size of QueueBytes
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runRandom(t, seed) })
	}
}

func runRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	w := newWorld(t, Limits{QueueLen: 1 + rng.IntN(8), PageEvents: 1 + rng.IntN(8), QueueBytes: []int64{500, 5000, 1 << 20}[seed%3]})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type seen struct {
		o       Options
		changes []kv.Change
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // protects ws and each changes
	var ws []*seen
	// The slow ones take one change each time somebody comes, until the gate opens.
	turns := make(chan struct{})
	var gate atomic.Pointer[chan struct{}]
	gate.Store(new(make(chan struct{})))
	start := func() {
		o := Options{Range: []kv.Range{kv.All(), kv.Prefix("a"), kv.Key("a1"), kv.From("b"), kv.Between("a2", "b2"), kv.Key("c3")}[rng.IntN(6)]}
		o.After = kv.Revision(1 + rng.IntN(int(w.s.State().Revision)))
		o.Previous = rng.IntN(2) == 0
		o.OnlyPuts, o.OnlyDeletes = rng.IntN(4) == 0, false
		o.OnlyDeletes = !o.OnlyPuts && rng.IntN(4) == 0
		if rng.IntN(2) == 0 {
			o.Progress = time.Microsecond
		}
		s := &seen{o: o}
		mu.Lock()
		ws = append(ws, s)
		mu.Unlock()
		slow := rng.IntN(2) == 0
		wg.Go(func() {
			err := w.hub.Watch(ctx, w.ctx, o, func(c kv.Change) bool {
				mu.Lock()
				s.changes = append(s.changes, c)
				mu.Unlock()
				if slow {
					select {
					case <-turns:
					case <-*gate.Load():
					}
				}
				return true
			})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	key := func() []byte { return fmt.Appendf(nil, "%c%d", 'a'+rng.IntN(3), rng.IntN(5)) }
	for i := range 250 {
		if rng.IntN(8) == 0 {
			start()
		}
		var ops []*command.Op
		for range 1 + rng.IntN(4) {
			op := &command.Op{Kind: command.Set, Key: key(), Value: fmt.Append(nil, rng.IntN(1000))}
			switch rng.IntN(6) {
			case 0:
				op = &command.Op{Kind: command.Delete, Key: op.Key}
			case 1:
				op = &command.Op{Kind: command.DeleteRange, Key: op.Key, Open: true}
			}
			ops = append(ops, op)
		}
		w.apply(session, ops...)
		select {
		case turns <- struct{}{}:
		default:
		}
		if i%20 == 0 { // so that the slow ones attach, and are demoted again
			close(*gate.Load())
			w.wait("all to attach", func() bool { return int(w.hub.attached.Load()) == len(ws) })
			gate.Store(new(make(chan struct{})))
		}
	}
	close(*gate.Load())
	// The last change is one for everybody.
	w.apply(session, &command.Op{Kind: command.Set, Key: []byte("end"), Value: nil})
	end := w.s.State().Revision
	w.wait("all watchers to come to the end", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range ws {
			want := w.history(s.o)
			if countEvents(s.changes) < countEvents(want) {
				return false
			}
		}
		return true
	})
	cancel()
	wg.Wait()
	for i, s := range ws {
		var events []kv.Change
		promised := s.o.After
		for _, c := range s.changes {
			if c.Progress && (c.Revision < promised || c.Revision > end) || !c.Progress && c.Revision <= promised {
				t.Fatalf("watcher %d: %+v after progress %d", i, c, promised)
			}
			if c.Progress {
				promised = c.Revision
			} else {
				events = append(events, c)
			}
		}
		if want := w.history(s.o); !reflect.DeepEqual(events, want) {
			t.Fatalf("watcher %d of %v: %d changes, want %d\n%+v\n%+v", i, s.o, len(events), len(want), events, want)
		}
	}
	t.Logf("%d watchers, %d revisions, %d demotions", len(ws), end, w.hub.Demotions())
}

func countEvents(changes []kv.Change) (n int) {
	for _, c := range changes {
		n += len(c.Events)
	}
	return n
}

// history is what a watcher of these options has to see.
func (w *world) history(o Options) []kv.Change {
	w.t.Helper()
	page, err := w.s.Changes(store.ChangesQuery{After: o.After, MaxEvents: 1 << 30, MaxBytes: 1 << 30, MaxScanned: 1 << 30, Want: o.want})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Changes
}

// The tree of ranges finds what a look at each finds.
func TestRanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		b := make([]byte, rng.IntN(3))
		for i := range b {
			b[i] = []byte{0, 'a', 'b', 255}[rng.IntN(4)]
		}
		return string(b)
	}
	var x ranges
	ws := map[*watcher]bool{}
	for range 3000 {
		switch {
		case rng.IntN(3) > 0 || len(ws) == 0:
			r := []kv.Range{kv.Key("k" + text()), kv.Prefix(text()), kv.Between(min(text(), "b"), "b"+text()), kv.From(text()), kv.All()}[rng.IntN(5)]
			w := &watcher{o: Options{Range: r}}
			ws[w] = true
			x.add(w)
		default:
			for w := range ws {
				delete(ws, w)
				x.remove(w)
				break
			}
		}
		if len(ws) > 40 {
			for w := range ws {
				delete(ws, w)
				x.remove(w)
			}
		}
		key := "k" + text()
		if rng.IntN(2) == 0 {
			key = text()
		}
		found := map[*watcher]int{}
		x.each([]byte(key), func(w *watcher) { found[w]++ })
		for w := range ws {
			if want := w.o.Range.Contains(key); (found[w] == 1) != want || found[w] > 1 {
				t.Fatalf("%v is found %d times for %q", w.o.Range, found[w], key)
			}
			delete(found, w)
		}
		if len(found) > 0 {
			t.Fatalf("%d are found that are gone", len(found))
		}
	}
}
