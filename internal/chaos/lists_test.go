//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/replkv/replkv/kv"
)

// lists is the list-append test: transactions by Update and View read lists and
// append unique elements to some. What was committed, and in which order, the
// record of the watch tells; each transaction must have read what that order says,
// and the order must agree with time.
type lists struct {
	r *round

	mu      sync.Mutex // protects the fields below
	highest kv.Revision
	history []*listTxn
}

const listKeys = 4

// listTxn is one transaction.
type listTxn struct {
	element string
	read    map[string]string
	wrote   []string
	rev     kv.Revision
	after   kv.Revision // the highest revision answered to anybody before it began
	fate    kv.Outcome
}

func newLists(r *round) *lists { return &lists{r: r} }

func (a *lists) key(i int) string { return fmt.Sprintf("%slist/%d", a.r.prefix, i) }

func (a *lists) work(ctx context.Context, rng *rand.Rand, worker int) {
	for n := 0; ctx.Err() == nil; n++ {
		a.once(ctx, rng, fmt.Sprintf("%d.%d", worker, n))
		pause4(ctx, rng)
	}
}

func (a *lists) once(ctx context.Context, rng *rand.Rand, element string) {
	ctx, cancel := someTime(ctx, rng)
	defer cancel()
	keys := rng.Perm(listKeys)[:1+rng.IntN(3)]
	x := &listTxn{element: element}
	for _, k := range keys[:rng.IntN(len(keys)+1)] {
		x.wrote = append(x.wrote, a.key(k))
	}
	a.mu.Lock()
	x.after = a.highest
	a.mu.Unlock()
	s := a.r.anyKV(rng)
	var err error
	if len(x.wrote) == 0 {
		err = s.View(ctx, func(tx *kv.ReadTx) error {
			x.rev = tx.Revision()
			return a.readAll(x, keys, tx.Get)
		})
		a.r.read(err)
	} else {
		x.rev, err = s.Update(ctx, func(tx *kv.Tx) error {
			if err := a.readAll(x, keys, tx.Get); err != nil {
				return err
			}
			for _, key := range x.wrote {
				if err := tx.Set(key, []byte(x.read[key]+" "+element)); err != nil {
					return err
				}
			}
			return nil
		})
		a.r.write(err)
	}
	x.fate = kv.OutcomeOf(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history = append(a.history, x)
	if err == nil {
		a.highest = max(a.highest, x.rev)
	}
}

func (a *lists) readAll(x *listTxn, keys []int, get func(string) (kv.Item, error)) error {
	x.read = map[string]string{} // the function may run again
	for _, k := range keys {
		item, err := get(a.key(k))
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		x.read[a.key(k)] = string(item.Value)
	}
	return nil
}

func (a *lists) check(_ context.Context, rec *record) {
	states, at := a.replay(rec)
	revs := slices.Sorted(maps.Keys(states))
	state := func(rev kv.Revision) map[string]string { // revisions of anything else change no list
		i, found := slices.BinarySearch(revs, rev)
		if !found {
			i--
		}
		return states[revs[i]]
	}
	a.r.histories++
	for _, x := range a.history {
		a.checkTxn(x, at, state)
	}
}

// replay returns the lists after each revision that changed them, and the
// revision of each element.
func (a *lists) replay(rec *record) (states map[kv.Revision]map[string]string, at map[string]kv.Revision) {
	states, at = map[kv.Revision]map[string]string{0: {}}, map[string]kv.Revision{}
	now := map[string]string{}
	for _, c := range rec.changes {
		next, element := maps.Clone(now), ""
		for _, e := range c.Events {
			if !strings.HasPrefix(e.Item.Key, a.r.prefix+"list/") {
				continue
			}
			value := string(e.Item.Value)
			i := strings.LastIndexByte(value, ' ')
			if i < 0 || value[:i] != now[e.Item.Key] || element != "" && value[i+1:] != element {
				a.r.l.violation("revision %d makes %q of %q in %s", c.Revision, value, now[e.Item.Key], e.Item.Key)
				continue
			}
			element = value[i+1:]
			next[e.Item.Key] = value
		}
		if element == "" {
			continue
		}
		if rev, twice := at[element]; twice {
			a.r.l.violation("element %s was appended at %d and at %d", element, rev, c.Revision)
		}
		at[element], states[c.Revision], now = c.Revision, next, next
	}
	return states, at
}

func (a *lists) checkTxn(x *listTxn, at map[string]kv.Revision, state func(kv.Revision) map[string]string) {
	bad := func(format string, args ...any) {
		a.r.l.violation("transaction "+x.element+": "+format, args...)
	}
	rev, committed := at[x.element]
	writes := len(x.wrote) > 0
	switch {
	case x.fate == kv.OutcomeNotDone && committed:
		bad("was not done, and is at revision %d", rev)
	case x.fate == kv.OutcomeDone && writes && rev != x.rev:
		bad("was done at revision %d, and is at %d", x.rev, rev)
	}
	if !writes {
		rev, committed = x.rev, x.fate == kv.OutcomeDone
	}
	if !committed {
		return
	}
	if rev < x.after || writes && rev == x.after {
		bad("is at revision %d, though %d had been answered before it began", rev, x.after)
	}
	saw := rev
	if writes {
		saw--
	}
	for key, value := range x.read {
		if want := state(saw)[key]; value != want {
			bad("at revision %d read %q in %s, which held %q", rev, value, key, want)
		}
	}
	for _, key := range x.wrote {
		if value := state(rev)[key]; value == state(saw)[key] {
			bad("at revision %d: %s still holds %q", rev, key, value)
		}
	}
	for key, value := range state(rev) {
		if writes && value != state(saw)[key] != slices.Contains(x.wrote, key) {
			bad("at revision %d: %s holds %q, %q before", rev, key, value, state(saw)[key])
		}
	}
}
