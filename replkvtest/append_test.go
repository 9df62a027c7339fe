package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

// The list-append test of Elle and Jepsen: transactions read lists and append unique
// elements to some, on all members, under crashes, partitions and one-way cuts. No
// cycles need to be searched: the store says which order it claims, by revisions, and
// Watch tells all that was committed. A history is strictly serializable in that order
// if
//   - each commit appended to the lists as they were at the revision before it, and
//     nothing else, and had read them so; what only read, read the lists of its revision;
//   - the order agrees with time: whatever was invoked after another's answer comes
//     after it, at a higher revision if it wrote;
//   - what was acknowledged was committed, once; what was not done was not.

// lists is what the lists hold.
type lists map[string]string

const appendKeys = 4

func listKey(i int) string { return fmt.Sprintf("list/%d", i) }

// appendTxn is a transaction of the history.
type appendTxn struct {
	element string
	read    lists
	wrote   []string // keys
	rev     replkv.Revision
	after   replkv.Revision // the highest revision answered to anybody before it was invoked
	fate    replkv.Outcome
}

// appendRun is a run of the test.
type appendRun struct {
	t  *testing.T
	db func(*rand.Rand) *replkv.DB

	mu      sync.Mutex // protects the fields below
	highest replkv.Revision
	history []*appendTxn
}

func TestListAppend(t *testing.T) {
	t.Parallel()
	seeds, length := 2, 15*time.Second
	if testing.Short() {
		seeds, length = 1, 8*time.Second
	}
	if n, err := strconv.Atoi(os.Getenv("REPLKV_FAULT_SEEDS")); err == nil {
		seeds = n // for a long run
	}
	fresh := rand.Uint64N(1 << 32)
	for i := range seeds {
		seed := uint64(i)
		if i >= seeds/2 {
			seed = fresh + uint64(i)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { listAppend(t, seed, length) })
		})
	}
}

func listAppend(t *testing.T, seed uint64, d time.Duration) {
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		smallLogs(i, cfg)
		cfg.RequestTimeout, cfg.HistoryAge = 3*time.Second, -1
	}))
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var mu sync.RWMutex // Restart replaces handles under the workers' feet
	run := &appendRun{t: t, db: func(r *rand.Rand) *replkv.DB {
		mu.RLock()
		defer mu.RUnlock()
		return c.DB(r.IntN(3))
	}}
	var wg sync.WaitGroup
	for w := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(w)+10))
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				run.once(ctx, rng, fmt.Sprintf("%d.%d", w, n))
				pauseFor(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
			}
		})
	}
	nemesis(ctx, c, rand.New(rand.NewPCG(seed, 1)), &mu)
	wg.Wait()
	c.Heal()
	c.allUp()
	committed, wrote := run.check(c.DB(0))
	t.Logf("%d transactions, %d commits", committed, wrote)
	if wrote < 30 || committed < wrote {
		t.Error("too little happened to show anything")
	}
}

// once runs a transaction: it reads some lists by key or by range, and appends to
// some, or none.
func (a *appendRun) once(ctx context.Context, rng *rand.Rand, element string) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+rng.IntN(3000))*time.Millisecond)
	defer cancel()
	keys := rng.Perm(appendKeys)[:1+rng.IntN(3)]
	writes := keys[:rng.IntN(len(keys)+1)]
	byRange, view := rng.IntN(3) == 0, len(writes) == 0 && rng.IntN(2) == 0
	x := &appendTxn{element: element}
	for _, k := range writes {
		x.wrote = append(x.wrote, listKey(k))
	}
	a.mu.Lock()
	x.after = a.highest
	a.mu.Unlock()
	var err error
	if view {
		err = a.db(rng).View(ctx, func(tx *replkv.ReadTx) error {
			x.rev = tx.Revision()
			return x.readAll(tx, keys, byRange)
		})
	} else {
		x.rev, err = a.db(rng).Update(ctx, func(tx *replkv.Tx) error {
			if err := x.readAll(tx, keys, byRange); err != nil {
				return err
			}
			for _, key := range x.wrote {
				if err := tx.Set(key, []byte(x.read[key]+" "+element)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	x.fate = replkv.OutcomeOf(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history = append(a.history, x)
	if err == nil {
		a.highest = max(a.highest, x.rev)
	}
}

// reader is a ReadTx or Tx.
type reader interface {
	Get(key string) (replkv.Item, error)
	Scan(r replkv.Range, opts ...replkv.ScanOption) iter.Seq2[replkv.Item, error]
}

func (x *appendTxn) readAll(tx reader, keys []int, byRange bool) error {
	x.read = lists{} // the function may run again
	if !byRange {
		for _, k := range keys {
			item, err := tx.Get(listKey(k))
			if err != nil && !errors.Is(err, replkv.ErrNotFound) {
				return err
			}
			x.read[listKey(k)] = string(item.Value)
		}
		return nil
	}
	for k := range appendKeys {
		x.read[listKey(k)] = ""
	}
	for item, err := range tx.Scan(replkv.Prefix("list/")) {
		if err != nil {
			return err
		}
		x.read[item.Key] = string(item.Value)
	}
	return nil
}

// check compares the history with what Watch says was committed.
func (a *appendRun) check(db *replkv.DB) (answered, commits int) {
	states := map[replkv.Revision]lists{1: {}} // after each revision
	by := map[replkv.Revision]string{}         // the element that it appended
	at := map[string]replkv.Revision{}
	now := lists{}
	last, err := db.Revision(context.Background())
	if err != nil {
		a.t.Fatal(err)
	}
	changes := db.Watch(context.Background(), replkv.Prefix("list/"), replkv.AfterRevision(1), replkv.WithProgress(time.Second))
	for change, err := range changes {
		if err != nil {
			a.t.Fatal(err)
		}
		if change.Progress {
			if change.Revision >= last {
				break
			}
			continue
		}
		next := maps.Clone(now)
		for _, ev := range change.Events {
			value := string(ev.Item.Value)
			before, element, _ := cutLast(value)
			if before != now[ev.Item.Key] {
				a.t.Errorf("revision %d makes %q of %q", change.Revision, value, now[ev.Item.Key])
			}
			if by[change.Revision] != "" && by[change.Revision] != element {
				a.t.Errorf("revision %d appends %s and %s", change.Revision, by[change.Revision], element)
			}
			by[change.Revision] = element
			next[ev.Item.Key] = value
		}
		if rev, twice := at[by[change.Revision]]; twice {
			a.t.Errorf("%s is appended at %d and at %d", by[change.Revision], rev, change.Revision)
		}
		at[by[change.Revision]] = change.Revision
		states[change.Revision], now = next, next
		commits++
	}
	state := func(rev replkv.Revision) lists { // revisions of anything else change no list
		for ; states[rev] == nil; rev-- {
		}
		return states[rev]
	}
	for _, x := range a.history {
		a.checkTxn(x, at, state)
		if x.fate == replkv.OutcomeDone {
			answered++
		}
	}
	return answered, commits
}

func cutLast(s string) (before, last string, ok bool) {
	i := strings.LastIndex(s, " ")
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

func (a *appendRun) checkTxn(x *appendTxn, at map[string]replkv.Revision, state func(replkv.Revision) lists) {
	rev, committed := at[x.element]
	writes := len(x.wrote) > 0
	switch {
	case x.fate == replkv.OutcomeNotDone && committed:
		a.t.Errorf("%s was not done, and is at revision %d", x.element, rev)
	case x.fate == replkv.OutcomeDone && writes && rev != x.rev:
		a.t.Errorf("%s was done at revision %d, and is at %d", x.element, x.rev, rev)
	}
	if !writes {
		rev, committed = x.rev, x.fate == replkv.OutcomeDone
	}
	if !committed {
		return
	}
	if rev < x.after || writes && rev == x.after {
		a.t.Errorf("%s is at revision %d, though %d had been answered before it was invoked", x.element, rev, x.after)
	}
	saw := rev
	if writes {
		saw--
	}
	for key, value := range x.read {
		if want := state(saw)[key]; value != want {
			a.t.Errorf("%s at revision %d read %q in %s, which held %q", x.element, rev, value, key, want)
		}
	}
	if writes {
		var changed []string
		for key, value := range state(rev) {
			if value != state(saw)[key] {
				changed = append(changed, key)
			}
		}
		slices.Sort(changed)
		slices.Sort(x.wrote)
		if !slices.Equal(changed, x.wrote) {
			a.t.Errorf("%s at revision %d appended to %v, it should to %v", x.element, rev, changed, x.wrote)
		}
	}
}
