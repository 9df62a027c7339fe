package kvtest

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/replkv/replkv/kv"
)

// Watch implements kv.KV.
func (f *Fake) Watch(ctx context.Context, r kv.Range, opts ...kv.WatchOption) iter.Seq2[kv.Change, error] {
	o := kv.WatchOptionsOf(opts)
	return func(yield func(kv.Change, error) bool) {
		pos, err := f.beginWatch(ctx, r, &o)
		for n := 0; err == nil; n++ {
			var c kv.Change
			if c, err = f.nextChange(ctx, r, &o, pos); err != nil {
				break
			}
			if f.Between != nil {
				if err = f.Between(ctx, n); err != nil {
					break
				}
			}
			if pos = c.Revision; !yield(c, nil) {
				return
			}
		}
		yield(kv.Change{}, fail("Watch", err))
	}
}

func (f *Fake) beginWatch(ctx context.Context, r kv.Range, o *kv.WatchOptions) (kv.Revision, error) {
	err := f.begin(ctx, "Watch")
	defer f.mu.Unlock()
	if err == nil {
		err = r.Validate()
	}
	if err == nil {
		err = o.Validate()
	}
	switch {
	case err != nil:
		return 0, err
	case !o.Resume:
		return f.data.Rev, nil
	case o.After > f.data.Rev:
		return 0, fmt.Errorf("%w: revision %d", kv.ErrFutureRevision, o.After)
	}
	return o.After, nil
}

// nextChange waits for the first change after pos, or for progress to be due.
func (f *Fake) nextChange(ctx context.Context, r kv.Range, o *kv.WatchOptions, pos kv.Revision) (kv.Change, error) {
	var due <-chan time.Time
	if o.Progress > 0 {
		t := time.NewTimer(o.Progress)
		defer t.Stop()
		due = t.C
	}
	for {
		if ctx.Err() != nil {
			return kv.Change{}, ctx.Err()
		}
		f.mu.Lock()
		changed, newest := f.changed, f.data.Rev
		c, err := f.changeLocked(r, o, pos)
		f.mu.Unlock()
		if err != nil || len(c.Events) > 0 {
			return c, err
		}
		select {
		case <-changed:
		case <-due:
			return kv.Change{Revision: newest, Progress: true}, nil
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}

func (f *Fake) changeLocked(r kv.Range, o *kv.WatchOptions, pos kv.Revision) (c kv.Change, err error) {
	switch {
	case f.closed:
		return c, kv.ErrClosed
	case pos < f.data.Compacted:
		return c, &kv.CompactedError{Revision: pos + 1, Compacted: f.data.Compacted}
	}
	for rev := pos + 1; rev <= f.data.Rev && len(c.Events) == 0; rev++ {
		c = kv.Change{Revision: rev, Events: f.eventsLocked(r, o, rev)}
	}
	return c, nil
}

// eventsLocked returns the events of one revision, which are one put, or
// removals in key order.
func (f *Fake) eventsLocked(r kv.Range, o *kv.WatchOptions, rev kv.Revision) (out []kv.Event) {
	for key := range f.data.Keys {
		it, ok := f.at(key, rev)
		if it.ModRevision != rev || !r.Contains(key) {
			continue
		}
		e := kv.Event{Kind: kv.EventPut, Item: it}
		if !ok {
			e = kv.Event{Kind: kv.EventDelete, Item: kv.Item{Key: key, ModRevision: rev}}
		}
		if prev, ok := f.at(key, rev-1); ok && o.Previous {
			e.Prev = &prev
		}
		if o.Wants(e.Kind) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b kv.Event) int { return cmp.Compare(a.Item.Key, b.Item.Key) })
	return out
}
