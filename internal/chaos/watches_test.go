//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/replkv/replkv/kv"
)

// record is what was committed under a round's prefix, as a watch from its
// beginning tells after all faults.
type record struct {
	changes []kv.Change
	last    kv.Revision // up to here
}

// history asks for the record.
func (r *round) history(ctx context.Context) (*record, error) {
	last, err := r.all.Revision(ctx)
	if err != nil {
		return nil, err
	}
	rec := &record{last: last}
	for c, err := range r.all.Watch(ctx, kv.Prefix(r.prefix), kv.AfterRevision(r.from), kv.WithProgress(20*ms)) {
		switch {
		case err != nil:
			return nil, err
		case c.Revision > last || c.Progress && c.Revision == last:
			return rec, nil
		case !c.Progress:
			rec.changes = append(rec.changes, c)
			if c.Revision == last {
				return rec, nil
			}
		}
	}
	return nil, ctx.Err()
}

// watches is a Watch and a WatchSnapshot that go on through all faults. The first
// must have told what the record does, the second end with the state.
type watches struct {
	r      *round
	cancel context.CancelFunc

	mu         sync.Mutex // protects the fields below
	told       []kv.Change
	toldTo     kv.Revision
	mirrored   []kv.Change // what WatchSnapshot told
	mirroredTo kv.Revision
}

func newWatches(r *round) *watches { return &watches{r: r} }

// work goes on in the background until the check has seen what it wants.
func (w *watches) work(ctx context.Context, _ *rand.Rand, _ int) {
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.r.background.Go(func() { w.watch(ctx) })
	w.r.background.Go(func() { w.snapshot(ctx) })
}

// watch resumes where it was when all endpoints were away for too long.
func (w *watches) watch(ctx context.Context) {
	at := w.r.from
	for ctx.Err() == nil {
		for c, err := range w.r.all.Watch(ctx, kv.Prefix(w.r.prefix), kv.AfterRevision(at), kv.WithProgress(50*ms)) {
			if err != nil {
				break
			}
			if c.Revision < at || c.Revision == at && !c.Progress {
				w.r.l.violation("a watch tells of revision %d after %d", c.Revision, at)
			}
			at = c.Revision
			w.mu.Lock()
			w.toldTo = at
			if !c.Progress {
				w.told = append(w.told, c)
			}
			w.mu.Unlock()
		}
		pauseFor(ctx, 50*ms)
	}
}

func (w *watches) snapshot(ctx context.Context) {
	for c, err := range kv.WatchSnapshot(ctx, w.r.all, kv.Prefix(w.r.prefix), kv.WithProgress(50*ms)) {
		if err != nil {
			if ctx.Err() == nil {
				w.r.l.violation("a WatchSnapshot ends: %v", err)
			}
			return
		}
		w.mu.Lock()
		w.mirrored = append(w.mirrored, c)
		w.mirroredTo = c.Revision
		w.mu.Unlock()
	}
}

func (w *watches) check(ctx context.Context, rec *record) {
	defer w.cancel()
	w.r.histories += 2
	err := eventually(10*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.toldTo < rec.last || w.mirroredTo < rec.last {
			return fmt.Errorf("the watches are at revisions %d and %d, the store at %d", w.toldTo, w.mirroredTo, rec.last)
		}
		return nil
	})
	if err != nil {
		w.r.l.violation("%v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkTold(rec)
	w.checkMirror(ctx, rec)
}

func describe(c kv.Change) string {
	s := fmt.Sprint(c.Revision)
	for _, e := range c.Events {
		s += fmt.Sprintf(" %v %q=%q %d %d", e.Kind, e.Item.Key, e.Item.Value, e.Item.CreateRevision, e.Item.Version)
	}
	return s
}

func (w *watches) checkTold(rec *record) {
	told := w.told
	if i := slices.IndexFunc(told, func(c kv.Change) bool { return c.Revision > rec.last }); i >= 0 {
		told = told[:i]
	}
	for i := range max(len(told), len(rec.changes)) {
		var a, b string
		if i < len(told) {
			a = describe(told[i])
		}
		if i < len(rec.changes) {
			b = describe(rec.changes[i])
		}
		if a != b {
			w.r.l.violation("change %d of the watch is %.200s; of the record %.200s", i, a, b)
			return
		}
	}
}

func (w *watches) checkMirror(ctx context.Context, rec *record) {
	mirror := map[string]kv.Item{}
	for _, c := range w.mirrored {
		if c.Revision > rec.last {
			break
		}
		for _, e := range c.Events {
			if e.Kind == kv.EventDelete {
				delete(mirror, e.Item.Key)
			} else {
				mirror[e.Item.Key] = e.Item
			}
		}
	}
	n := 0
	for item, err := range w.r.all.Scan(ctx, kv.Prefix(w.r.prefix), kv.AtRevision(rec.last)) {
		if err != nil {
			w.r.l.violation("scan at %d: %v", rec.last, err)
			return
		}
		n++
		if have, ok := mirror[item.Key]; !ok || have.ModRevision != item.ModRevision || string(have.Value) != string(item.Value) {
			w.r.l.violation("WatchSnapshot has %s of revision %d, the store of %d", item.Key, have.ModRevision, item.ModRevision)
		}
	}
	if n != len(mirror) {
		w.r.l.violation("WatchSnapshot has %d keys, the store %d", len(mirror), n)
	}
}
