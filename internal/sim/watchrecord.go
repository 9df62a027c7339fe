package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/replkv/replkv"
)

// record is what one watcher saw, over all the members that served it.
type record struct {
	name     string
	in       replkv.Range
	previous bool
	puts     bool // only them
	slow     bool
	wander   bool // begins again, now and then, at a revision that it has seen

	mu    sync.Mutex // protects the fields below
	spans []span
}

// span is one stretch without a declared gap: from a revision on, all that
// follows was to be delivered.
type span struct {
	after   replkv.Revision
	changes []replkv.Change
	at      replkv.Revision
}

func (r *record) options(after replkv.Revision) []replkv.WatchOption {
	opts := []replkv.WatchOption{replkv.AfterRevision(after), replkv.WithProgress(100 * time.Millisecond)}
	if r.previous {
		opts = append(opts, replkv.WithPrevious())
	}
	if r.puts {
		opts = append(opts, replkv.OnlyPuts())
	}
	return opts
}

// follow watches until ctx ends, on whichever member there is, and goes on from
// the last change when that member ends. A slow one is so while others are busy.
func (r *record) follow(ctx, busy context.Context, run *run, rng *rand.Rand, pick func() *replkv.DB) {
	r.begin(1)
	for ctx.Err() == nil {
		db := pick()
		if db == nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		err := r.loop(ctx, busy, rng, db)
		gone, compacted := errors.AsType[*replkv.CompactedError](err)
		switch {
		case err == nil: // it wanders
		case ctx.Err() != nil:
			if !errors.Is(err, ctx.Err()) {
				run.fail("%s: at the end of ctx: %v", r.name, err)
			}
		case compacted:
			run.count(countCompacted)
			r.lose(run, gone)
		case db.Err() != nil || errors.Is(err, replkv.ErrNoLeader) || errors.Is(err, context.DeadlineExceeded):
			pause(ctx, 50*time.Millisecond)
		default:
			run.fail("%s: at %d: %v", r.name, r.at(), err)
			pause(ctx, 50*time.Millisecond)
		}
	}
}

// lose ends a span: there was nothing to deliver before the revision that is
// gone, and whoever goes on begins where the history does.
func (r *record) lose(run *run, gone *replkv.CompactedError) {
	r.mu.Lock()
	s := &r.spans[len(r.spans)-1]
	if gone.Revision <= s.at || gone.Compacted < gone.Revision {
		run.fail("%s: at %d: %v", r.name, s.at, gone)
	}
	s.at = gone.Revision - 1
	r.mu.Unlock()
	r.begin(gone.Compacted)
}

func (r *record) begin(after replkv.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, span{after: after, at: after})
}

func (r *record) at() replkv.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spans[len(r.spans)-1].at
}

func (r *record) loop(ctx, busy context.Context, rng *rand.Rand, db *replkv.DB) error {
	for c, err := range db.Watch(ctx, r.in, r.options(r.at())...) {
		if err != nil {
			return err
		}
		r.mu.Lock()
		s := &r.spans[len(r.spans)-1]
		s.changes, s.at = append(s.changes, c), max(s.at, c.Revision)
		r.mu.Unlock()
		switch {
		case r.slow && rng.IntN(60) == 0: // its queue runs over meanwhile
			pause(busy, time.Duration(5+rng.IntN(10))*time.Second)
		case r.slow:
			pause(busy, time.Duration(rng.IntN(40))*time.Millisecond)
		}
		if r.wander && rng.IntN(100) == 0 {
			r.begin(c.Revision - replkv.Revision(rng.IntN(int(min(c.Revision, 50)))))
			return nil
		}
	}
	return nil
}

// reference is the history, as the first watcher to see a revision whole saw it.
type reference struct {
	events map[replkv.Revision][]replkv.Event
	whole  bool
}

func describeEvent(e replkv.Event) string {
	return fmt.Sprintf("%v %s=%x at %d, created at %d, version %d", e.Kind, e.Item.Key, e.Item.Value, e.Item.ModRevision, e.Item.CreateRevision, e.Item.Version)
}

// check runs the validators over a record. Their names are those of etcd's
// robustness tests.
func (r *record) check(run *run, ref reference, final replkv.Revision) {
	for _, s := range r.spans {
		for name, validate := range map[string]func(*span, reference) error{
			"ordered": r.ordered, "unique": r.unique, "atomic": r.atomic, "reliable": r.reliable, "bookmarkable": r.bookmarkable,
			"filter": r.filter, "previous": r.previousItems, "resumable": r.resumable,
		} {
			if err := validate(&s, ref); err != nil {
				run.fail("%s, from %d: not %s: %v", r.name, s.after, name, err)
			}
		}
	}
	if last := r.spans[len(r.spans)-1].at; last < final {
		run.fail("%s ended at %d of %d", r.name, last, final)
	}
}

func (s *span) events(fn func(c *replkv.Change) error) error {
	for i := range s.changes {
		if !s.changes[i].Progress {
			if err := fn(&s.changes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// ordered: revisions rise.
func (r *record) ordered(s *span, _ reference) error {
	last := s.after
	return s.events(func(c *replkv.Change) error {
		if c.Revision < last {
			return fmt.Errorf("%d after %d", c.Revision, last)
		}
		last = c.Revision
		return nil
	})
}

// unique: no event comes twice.
func (r *record) unique(s *span, _ reference) error {
	seen := map[string]bool{}
	return s.events(func(c *replkv.Change) error {
		for _, e := range c.Events {
			id := fmt.Sprint(c.Revision, e.Item.Key)
			if seen[id] {
				return fmt.Errorf("%s", describeEvent(e))
			}
			seen[id] = true
		}
		return nil
	})
}

// wanted are the events of a revision that the watcher asked for.
func (r *record) wanted(events []replkv.Event) (out []replkv.Event) {
	for _, e := range events {
		if r.in.Contains(e.Item.Key) && !(r.puts && e.Kind == replkv.EventDelete) {
			out = append(out, e)
		}
	}
	return out
}

// atomic: a Change has all events of its revision, in their order, and what they
// say is what all others were told.
func (r *record) atomic(s *span, ref reference) error {
	return s.events(func(c *replkv.Change) error {
		told, known := ref.events[c.Revision]
		if !known && !ref.whole {
			return nil // nobody who saw all saw it
		}
		want := r.wanted(told)
		if !slices.EqualFunc(c.Events, want, func(a, b replkv.Event) bool { return describeEvent(a) == describeEvent(b) }) {
			return fmt.Errorf("revision %d: %d events, want %d: %v", c.Revision, len(c.Events), len(want), c.Events)
		}
		return nil
	})
}

// reliable: nothing between the span's begin and its end is missing.
func (r *record) reliable(s *span, ref reference) error {
	next := s.after
	missing := func(until replkv.Revision) error {
		for next++; next < until; next++ {
			_, known := ref.events[next]
			if !known && ref.whole || len(r.wanted(ref.events[next])) > 0 {
				return fmt.Errorf("revision %d is missing (known: %v)", next, known)
			}
		}
		return nil
	}
	err := s.events(func(c *replkv.Change) error { return missing(c.Revision) })
	return errors.Join(err, missing(s.at+1))
}

// resumable: a span begins right after the revision that it asked for.
func (r *record) resumable(s *span, _ reference) error {
	return s.events(func(c *replkv.Change) error {
		if c.Revision <= s.after {
			return fmt.Errorf("%d came although %d was known", c.Revision, s.after)
		}
		return nil
	})
}

// bookmarkable: after progress R no event at or below R comes, and progress does
// not go back.
func (r *record) bookmarkable(s *span, _ reference) error {
	promised := s.after
	for _, c := range s.changes {
		switch {
		case c.Progress && c.Revision < promised:
			return fmt.Errorf("progress %d after %d", c.Revision, promised)
		case !c.Progress && c.Revision <= promised:
			return fmt.Errorf("event of %d after progress %d", c.Revision, promised)
		}
		if c.Progress {
			promised = c.Revision
		}
	}
	return nil
}

// filter: nothing comes that was not asked for.
func (r *record) filter(s *span, _ reference) error {
	return s.events(func(c *replkv.Change) error {
		if len(r.wanted(c.Events)) != len(c.Events) || len(c.Events) == 0 {
			return fmt.Errorf("revision %d: %v", c.Revision, c.Events)
		}
		return nil
	})
}

// previousItems: Prev is what the reference had for the key before, wherever
// the reference knows all that happened until then.
func (r *record) previousItems(s *span, ref reference) error {
	if !r.previous {
		return s.events(func(c *replkv.Change) error {
			for _, e := range c.Events {
				if e.Prev != nil {
					return fmt.Errorf("revision %d: nobody asked for it", c.Revision)
				}
			}
			return nil
		})
	}
	state, at := map[string]replkv.Item{}, replkv.Revision(1)
	return s.events(func(c *replkv.Change) error {
		for at++; at < c.Revision; at++ {
			if _, known := ref.events[at]; !known {
				at-- // nobody saw it: what was before is not known, from here on
				return nil
			}
			replay(state, ref.events[at])
		}
		for _, e := range c.Events {
			want, had := state[e.Item.Key]
			if had != (e.Prev != nil) || had && fmt.Sprint(*e.Prev) != fmt.Sprint(want) {
				return fmt.Errorf("revision %d, %s: %+v, want %+v (%v)", c.Revision, e.Item.Key, e.Prev, want, had)
			}
		}
		if _, known := ref.events[at]; !known {
			at-- // who saw all did not see this one, so it has more than the events here
			return nil
		}
		replay(state, ref.events[at])
		return nil
	})
}

func replay(state map[string]replkv.Item, events []replkv.Event) {
	for _, e := range events {
		if e.Kind == replkv.EventDelete {
			delete(state, e.Item.Key)
		} else {
			state[e.Item.Key] = e.Item
		}
	}
}
