package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// Bounds of a Change of WatchSnapshot's first listing.
const (
	snapshotEvents = 1000
	snapshotBytes  = 1 << 20
)

// snapshotPause is between two attempts while the store cannot answer.
const snapshotPause = 100 * time.Millisecond

// WatchSnapshot yields the state of r, then its changes, for ever: whoever
// applies the events in order to a map has what the store has.
//
// First come the items that are there, as puts in key order, in Changes of at
// most 1,000 items or 1 MiB, all of the revision they were read at, and then a
// Change with Progress of that revision: the state is whole. From then on the
// changes follow as Watch yields them. If history is compacted before it was
// delivered, r is listed again, and the difference is one Change: puts of what
// has another ModRevision, then deletes of what is gone, without Prev; Progress
// of its revision follows. Until then a map that is kept is behind, but never
// torn.
//
// It waits while there is no leader, and goes on. The loop ends when the body
// breaks out, ctx ends, the store is closed, or it answers an error that waiting
// does not cure; the error is the last pair. Of the options it takes WithPrevious
// and WithProgress.
//
// It holds one revision for each key of r, and while it lists again twice that
// and the difference.
func WatchSnapshot(ctx context.Context, s KV, r Range, opts ...WatchOption) iter.Seq2[Change, error] {
	o := WatchOptionsOf(opts)
	return func(yield func(Change, error) bool) {
		if o.Resume || o.OnlyPuts || o.OnlyDeletes {
			err := fmt.Errorf("%w: WatchSnapshot takes neither a start nor a filter", ErrInvalidArgument)
			yield(Change{}, &Error{Op: "WatchSnapshot", Outcome: OutcomeNotDone, Err: err})
			return
		}
		m := mirror{s: s, r: r, opts: opts, yield: yield}
		if err := m.run(ctx); err != nil && err != errLeft {
			yield(Change{}, err)
		}
	}
}

// errLeft says that the body has broken out.
var errLeft = errors.New("the loop was left")

// mirror is one loop over a WatchSnapshot.
type mirror struct {
	s     KV
	r     Range
	opts  []WatchOption
	yield func(Change, error) bool

	known map[string]Revision // ModRevision of each key as the consumer has it; nil before the first listing
	at    Revision            // that the consumer is at, once a listing was whole
	whole bool
}

func (m *mirror) run(ctx context.Context) error {
	for {
		err := m.step(ctx)
		switch {
		case errors.Is(err, ErrCompacted):
			m.whole = false
		case ctx.Err() != nil || !passes(err):
			return err
		default:
			wait(ctx, snapshotPause)
		}
	}
}

// passes says whether waiting may cure the error. A deadline here is the call's
// own, by RequestTimeout.
func passes(err error) bool {
	return errors.Is(err, ErrNoLeader) || errors.Is(err, ErrOverloaded) || errors.Is(err, context.DeadlineExceeded)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// step lists if need be, and follows the changes until an error.
func (m *mirror) step(ctx context.Context) error {
	if !m.whole {
		if err := m.list(ctx); err != nil {
			return err
		}
	}
	for c, err := range m.s.Watch(ctx, m.r, append(slices.Clone(m.opts), AfterRevision(m.at))...) {
		if err != nil {
			return err
		}
		for _, e := range c.Events {
			if e.Kind == EventDelete {
				delete(m.known, e.Item.Key)
			} else {
				m.known[e.Item.Key] = e.Item.ModRevision
			}
		}
		m.at = c.Revision
		if !m.yield(c, nil) {
			return errLeft
		}
	}
	return errLeft // a watch ends with an error, unless it was left
}

// list brings the consumer to the state of one revision.
func (m *mirror) list(ctx context.Context) error {
	rev, err := m.s.Revision(ctx)
	if err != nil {
		return err
	}
	if m.known == nil {
		err = m.first(ctx, rev)
	} else {
		err = m.difference(ctx, rev)
	}
	if err != nil {
		return err
	}
	m.at, m.whole = rev, true
	if !m.yield(Change{Revision: rev, Progress: true}, nil) {
		return errLeft
	}
	return nil
}

// first yields the state in pieces. What was yielded before an error is known.
func (m *mirror) first(ctx context.Context, rev Revision) error {
	m.known = map[string]Revision{}
	c, bytes := Change{Revision: rev}, 0
	flush := func() error {
		if len(c.Events) == 0 {
			return nil
		}
		for _, e := range c.Events {
			m.known[e.Item.Key] = e.Item.ModRevision
		}
		full := c
		c, bytes = Change{Revision: rev}, 0
		if !m.yield(full, nil) {
			return errLeft
		}
		return nil
	}
	for item, err := range m.s.Scan(ctx, m.r, AtRevision(rev)) {
		if err != nil {
			return err
		}
		size := len(item.Key) + len(item.Value)
		if len(c.Events) >= snapshotEvents || bytes+size > snapshotBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		c.Events = append(c.Events, Event{Kind: EventPut, Item: item})
		bytes += size
	}
	return flush()
}

// difference yields what brings the consumer to rev, at once.
func (m *mirror) difference(ctx context.Context, rev Revision) error {
	c, now := Change{Revision: rev}, make(map[string]Revision, len(m.known))
	for item, err := range m.s.Scan(ctx, m.r, AtRevision(rev)) {
		if err != nil {
			return err
		}
		if m.known[item.Key] != item.ModRevision {
			c.Events = append(c.Events, Event{Kind: EventPut, Item: item})
		}
		now[item.Key] = item.ModRevision
	}
	for _, key := range slices.Sorted(maps.Keys(m.known)) {
		if _, ok := now[key]; !ok {
			c.Events = append(c.Events, Event{Kind: EventDelete, Item: Item{Key: key, ModRevision: rev}})
		}
	}
	m.known = now
	if len(c.Events) > 0 && !m.yield(c, nil) {
		return errLeft
	}
	return nil
}
