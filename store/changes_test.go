package store

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// changes is the model's history after a revision.
func (m *model) changes(after kv.Revision, r kv.Range, previous bool) []kv.Change {
	byRevision := map[kv.Revision][]kv.Event{}
	for key, h := range m.Keys {
		for i, it := range h {
			if it.ModRevision <= after || it.ModRevision > m.Rev || !r.Contains(key) {
				continue
			}
			ev := kv.Event{Kind: kv.EventPut, Item: it}
			if it.Version == 0 {
				ev = kv.Event{Kind: kv.EventDelete, Item: kv.Item{Key: key, ModRevision: it.ModRevision}}
			}
			if previous && i > 0 && h[i-1].Version > 0 {
				ev.Prev = &h[i-1]
			}
			byRevision[it.ModRevision] = append(byRevision[it.ModRevision], ev)
		}
	}
	var out []kv.Change
	for rev, events := range byRevision {
		order := m.Order[rev]
		slices.SortFunc(events, func(a, b kv.Event) int {
			return cmp.Compare(slices.Index(order, a.Item.Key), slices.Index(order, b.Item.Key))
		})
		out = append(out, kv.Change{Revision: rev, Events: events})
	}
	slices.SortFunc(out, func(a, b kv.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return out
}

func describe(changes []kv.Change) string {
	s := ""
	for _, c := range changes {
		s += fmt.Sprintf("%d:", c.Revision)
		for _, e := range c.Events {
			s += fmt.Sprintf(" %v %+v", e.Kind, e.Item)
			if e.Prev != nil {
				s += fmt.Sprintf(" (was %+v)", *e.Prev)
			}
		}
		s += "\n"
	}
	return s
}

// readChanges reads all of the history after a revision, page by page.
func readChanges(s *Store, q ChangesQuery) (out []kv.Change, err error) {
	for {
		page, err := s.Changes(q)
		if err != nil {
			return out, err
		}
		out = append(out, page.Changes...)
		if page.Through < q.After || page.Through == q.After && page.Newest > q.After {
			return out, fmt.Errorf("no progress after %d: %+v", q.After, page)
		}
		if q.After = page.Through; q.After == page.Newest {
			return out, nil
		}
	}
}

// checkChanges compares a random part of the history with the model's.
func checkChanges(t *testing.T, rng *rand.Rand, s *Store, m *model) {
	t.Helper()
	after := kv.Revision(rng.IntN(int(m.Rev) + 2))
	r := []kv.Range{kv.All(), kv.Prefix("key"), kv.Key("a"), kv.From("a\x00")}[rng.IntN(4)]
	previous := rng.IntN(2) == 0
	q := ChangesQuery{After: after, MaxEvents: 1 + rng.IntN(20), MaxBytes: 1 + rng.IntN(200), MaxScanned: 1 + rng.IntN(500),
		Want: func(c IndexedChange) Wanted {
			switch {
			case !r.Contains(string(c.Key)):
				return Skip
			case previous:
				return WantPrevious
			}
			return WantEvent
		}}
	got, err := readChanges(s, q)
	switch {
	case after < m.Compacted:
		if c, ok := errors.AsType[*kv.CompactedError](err); !ok || c.Compacted != m.Compacted || c.Revision != after+1 {
			t.Fatalf("changes after %d, compacted %d: %v", after, m.Compacted, err)
		}
	case after > m.Rev:
		if !errors.Is(err, kv.ErrFutureRevision) {
			t.Fatalf("changes after %d of %d: %v", after, m.Rev, err)
		}
	default:
		want := m.changes(after, r, previous)
		if err != nil || describe(got) != describe(want) {
			t.Fatalf("changes of %v after %d, %v:\n%swant:\n%s", r, after, err, describe(got), describe(want))
		}
	}
}

// TestChangesOfARandomHistory compares the history that the store tells with the
// model's, through compactions, sweeps, settlings, reopenings, crashes and moves
// to another store by checkpoint.
func TestChangesOfARandomHistory(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 3))
			runHistory(t, rng, randomScript(rng, 120), func(s *Store, m *model) {
				for range 3 {
					checkChanges(t, rng, s, m)
				}
			})
		})
	}
}

func setOp(key, value string) *command.Op {
	return &command.Op{Kind: command.Set, Key: []byte(key), Value: []byte(value)}
}

// applying numbers what a test applies.
type applying struct {
	t     *testing.T
	s     *Store
	index uint64
	seq   uint64
}

func newApplying(t *testing.T) *applying {
	a := &applying{t: t, s: openMem(t, vfs.NewMem()), index: 1}
	if _, err := a.s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	return a
}

// do applies the operations as one entry.
func (a *applying) do(ops ...*command.Op) {
	a.t.Helper()
	a.index++
	a.seq++
	if _, err := a.s.Apply([]Entry{encodeEntry(a.index, encodeBatch(testSession, a.seq, a.seq-1, ops...))}); err != nil {
		a.t.Fatal(err)
	}
}

func every(IndexedChange) Wanted { return WantEvent }

// One revision with more keys than a row of the index holds is one Change, and
// a page does not end within it.
func TestChangesOfOneRevisionStayTogether(t *testing.T) {
	a := newApplying(t)
	const keys = 3000
	long := string(make([]byte, 60)) // so that the index row of the removal is in chunks
	for i := range keys / 100 {
		var ops []*command.Op
		for j := range 100 {
			ops = append(ops, setOp(fmt.Sprintf("k%05d%s", i*100+j, long), "v"))
		}
		a.do(ops...)
	}
	before := a.s.State().Revision
	a.do(&command.Op{Kind: command.DeleteRange, Key: []byte("k"), Open: true}, setOp("after", "v"))
	page, err := a.s.Changes(ChangesQuery{After: before, MaxEvents: 10, MaxBytes: 1 << 20, MaxScanned: 1, Want: every})
	if err != nil || len(page.Changes) != 1 || len(page.Changes[0].Events) != keys || page.Through != before+1 {
		t.Fatalf("%d changes through %d, %v; want all of revision %d", len(page.Changes), page.Through, err, before+1)
	}
	for i, e := range page.Changes[0].Events {
		if e.Kind != kv.EventDelete || e.Item.Key != fmt.Sprintf("k%05d%s", i, long) || e.Item.ModRevision != before+1 {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
}

// An entry of many revisions is read from any of them, and an index row that
// spans the compacted revision serves those above it.
func TestChangesFromWithinAnEntry(t *testing.T) {
	a := newApplying(t)
	a.do(setOp("a", "1"), setOp("b", "1"), setOp("a", "2"), setOp("b", "2")) // revisions 2 to 5
	a.do(&command.Op{Kind: command.Compact, Revision: 3})
	if err := a.s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.s.Changes(ChangesQuery{After: 2, MaxEvents: 9, MaxBytes: 99, MaxScanned: 99, Want: every}); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("after 2: %v", err)
	}
	page, err := a.s.Changes(ChangesQuery{After: 3, MaxEvents: 9, MaxBytes: 99, MaxScanned: 99,
		Want: func(IndexedChange) Wanted { return WantPrevious }})
	want := []kv.Change{
		{Revision: 4, Events: []kv.Event{{Kind: kv.EventPut, Item: item("a", "2", 2, 4, 2), Prev: new(item("a", "1", 2, 2, 1))}}},
		{Revision: 5, Events: []kv.Event{{Kind: kv.EventPut, Item: item("b", "2", 3, 5, 2), Prev: new(item("b", "1", 3, 3, 1))}}},
	}
	if err != nil || describe(page.Changes) != describe(want) || page.Through != 5 {
		t.Errorf("got %s, %+v, %v; want %s", describe(page.Changes), page, err, describe(want))
	}
}

func item(key, value string, create, mod kv.Revision, version int64) kv.Item {
	return kv.Item{Key: key, Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version}
}

// The previous items of one revision are bounded: those above the bound are left
// out, the events are not.
func TestPreviousItemsAreBounded(t *testing.T) {
	a := newApplying(t)
	large := string(make([]byte, 1<<20))
	for i := range 20 {
		a.do(setOp(fmt.Sprintf("k%02d", i), large))
	}
	before := a.s.State().Revision
	a.do(&command.Op{Kind: command.DeleteRange, Key: []byte("k"), Open: true})
	page, err := a.s.Changes(ChangesQuery{After: before, MaxEvents: 1, MaxBytes: 1, MaxScanned: 1,
		Want: func(IndexedChange) Wanted { return WantPrevious }})
	if err != nil || len(page.Changes) != 1 || len(page.Changes[0].Events) != 20 {
		t.Fatalf("%d changes, %v", len(page.Changes), err)
	}
	with := 0
	for i, e := range page.Changes[0].Events {
		if e.Prev == nil {
			continue
		}
		if with++; with != i+1 || len(e.Prev.Value) != len(large) {
			t.Errorf("event %d has a previous item of %d bytes, %d before it do", i, len(e.Prev.Value), with-1)
		}
	}
	if with != kv.MaxPreviousBytes>>20 {
		t.Errorf("%d previous items of 1 MiB and some", with)
	}
}

// A page ends although nothing is wanted: whoever reads can look at its ctx.
func TestAPageOfNothing(t *testing.T) {
	a := newApplying(t)
	for i := range 100 {
		a.do(setOp(fmt.Sprintf("key-%d", i), "v"))
	}
	page, err := a.s.Changes(ChangesQuery{After: 1, MaxEvents: 10, MaxBytes: 10, MaxScanned: 100, Want: func(IndexedChange) Wanted { return Skip }})
	if err != nil || page.Changes != nil || page.Through < 2 || page.Through > 20 || page.Newest != 101 {
		t.Errorf("got %+v, %v", page, err)
	}
}
