package replkvtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/kv"
)

// TestWatchFaults runs watchers of many kinds, fast and slow, on all members
// under crashes, partitions, cuts, leader changes and snapshot installs, with and
// without compaction, in virtual time, and validates what each recorded.
func TestWatchFaults(t *testing.T) {
	t.Parallel()
	seeds, length := 2, 15*time.Second
	if testing.Short() {
		seeds, length = 1, 8*time.Second
	}
	if n, err := strconv.Atoi(os.Getenv("REPLKV_FAULT_SEEDS")); err == nil {
		seeds = n // for a long run
	}
	fresh := rand.Uint64N(1<<32) &^ 1
	for i := range seeds {
		seed := uint64(i)
		if i >= seeds/2 {
			seed = fresh + uint64(i)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runWatchFaults(t, seed, length, seed%2 == 1) })
		})
	}
}

// watchRun is one run of TestWatchFaults.
type watchRun struct {
	t  *testing.T
	c  *Cluster
	mu sync.RWMutex // Restart replaces handles under the workers' feet

	ackMu sync.Mutex // protects the field below
	acked map[replkv.Revision]string
}

func (w *watchRun) db(r *rand.Rand) *replkv.DB {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.c.DB(r.IntN(3))
}

func runWatchFaults(t *testing.T, seed uint64, d time.Duration, compact bool) {
	w := &watchRun{t: t, acked: map[replkv.Revision]string{}}
	w.c = NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		smallLogs(i, cfg)
		cfg.RequestTimeout = 3 * time.Second
	}))
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	watching, enough := context.WithCancel(context.Background())
	defer enough()
	var writers, watchers sync.WaitGroup
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	for i := range 5 {
		writers.Go(func() { w.write(ctx, fmt.Sprintf("key-%d", i), random(100+uint64(i))) })
	}
	writers.Go(func() { w.writeRanges(ctx, random(110)) })
	if compact {
		writers.Go(func() { w.compact(ctx, random(120)) })
	}
	records := []*record{
		{name: "all"}, {name: "all, again"}, {name: "all, with previous", previous: true}, {name: "all, slow", slow: true, previous: true},
		{name: "one key", in: replkv.Key("key-1"), previous: true}, {name: "a key of puts", in: replkv.Key("key-2"), puts: true},
		{name: "ranges", in: replkv.Prefix("range-"), slow: true}, {name: "part of a range", in: replkv.Between("range-3", "range-6"), previous: true},
		{name: "nothing", in: replkv.Prefix("none")}, {name: "wanderer", wander: true}, {name: "puts from key-3", in: replkv.From("key-3"), puts: true},
	}
	for i, r := range records {
		if r.in.IsZero() {
			r.in = replkv.All()
		}
		rng := random(200 + uint64(i))
		watchers.Go(func() { r.follow(watching, ctx, t, rng, w.db) })
	}
	mirror := &mirrored{}
	watchers.Go(func() { mirror.follow(watching, ctx, t, random(300), w.db) })

	nemesis(ctx, w.c, random(1), &w.mu)
	writers.Wait()
	w.c.Heal()
	w.mu.Lock()
	for i := range w.c.Len() {
		if w.c.members[i].down {
			w.c.Restart(i)
		}
	}
	w.mu.Unlock()
	w.c.WaitReady()
	// A write of unknown outcome may still come.
	final, err := w.c.DB(0).Set(watching, "end", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.c.wait("the watchers to come to the end", func() bool {
		for _, r := range records {
			if r.at() < final {
				return false
			}
		}
		return mirror.reached() >= final
	})
	enough()
	watchers.Wait()
	w.check(records, final, compact)
	checkState(t, "WatchSnapshot", mirror.state, w.c.DB(0))
	demotions, installed := uint64(0), 0
	for i := range 3 {
		demotions += w.c.DB(i).Metrics().WatchDemotions
		installed += w.c.snapshotsInstalled(i)
	}
	t.Logf("%d revisions, %d acknowledged; compaction %v; of the last starts: %d snapshots installed, %d demotions", final, len(w.acked), compact, installed, demotions)
}

// check validates the records. Without compaction the reference is the history
// that each member's index gives, and must be the same on all.
func (w *watchRun) check(records []*record, final replkv.Revision, compact bool) {
	t := w.t
	t.Helper()
	ref := reference{}
	if compact {
		for _, r := range records[:4] {
			for _, s := range r.spans {
				for _, c := range s.changes {
					if !c.Progress && ref[c.Revision] == nil {
						ref[c.Revision] = c.Events
					}
				}
			}
		}
	} else {
		for i := range w.c.Len() {
			w.readHistory(i, ref, final)
		}
		checkReference(t, ref, w.c.DB(0), final)
	}
	for rev, what := range w.acked {
		events, known := ref[rev]
		found := !known && compact
		for _, e := range events {
			found = found || fmt.Sprintf("%v %s=%x", e.Kind, e.Item.Key, e.Item.Value) == what
		}
		if !found {
			t.Errorf("acknowledged at %d: %.60s; the history has %v", rev, what, events)
		}
	}
	for _, r := range records {
		r.check(t, ref, final)
	}
	if final < 100 {
		t.Errorf("too little happened to show anything: %d revisions", final)
	}
}

// readHistory adds what member i tells from the beginning, and compares it with
// what others told.
func (w *watchRun) readHistory(i int, ref reference, final replkv.Revision) {
	w.t.Helper()
	for c, err := range w.c.DB(i).Watch(context.Background(), replkv.All(), replkv.FromRevision(1)) {
		if err != nil {
			w.t.Fatalf("history of member %d: %v", i, err)
		}
		if known, ok := ref[c.Revision]; ok && fmt.Sprint(known) != fmt.Sprint(c.Events) {
			w.t.Errorf("member %d tells %v of revision %d, another %v", i, c.Events, c.Revision, known)
		}
		if ref[c.Revision] = c.Events; c.Revision >= final {
			return
		}
	}
}

func (w *watchRun) ack(rev replkv.Revision, what string, err error) {
	if err != nil {
		return
	}
	w.ackMu.Lock()
	defer w.ackMu.Unlock()
	w.acked[rev] = what
}

// write sets and deletes a key of its own.
func (w *watchRun) write(ctx context.Context, key string, r *rand.Rand) {
	pad := strings.Repeat("x", 1000)
	for n := 0; ctx.Err() == nil; n++ {
		wctx, cancel := context.WithTimeout(ctx, time.Duration(1+r.IntN(3000))*time.Millisecond)
		if r.IntN(5) == 0 {
			res, err := w.db(r).Delete(wctx, key)
			if err == nil && res.Deleted == 1 {
				w.ack(res.Revision, fmt.Sprintf("delete %s=", key), nil)
			}
		} else {
			value := fmt.Sprint(n, pad[:r.IntN(len(pad))])
			rev, err := w.db(r).Set(wctx, key, []byte(value))
			w.ack(rev, fmt.Sprintf("put %s=%x", key, value), err)
		}
		cancel()
		pauseFor(ctx, time.Duration(r.IntN(30))*time.Millisecond)
	}
}

// writeRanges makes revisions of several events.
func (w *watchRun) writeRanges(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		for i := range 8 {
			wctx, cancel := context.WithTimeout(ctx, time.Second)
			key := fmt.Sprintf("range-%d", i)
			rev, err := w.db(r).Set(wctx, key, []byte("v"))
			w.ack(rev, fmt.Sprintf("put %s=%x", key, "v"), err)
			cancel()
		}
		wctx, cancel := context.WithTimeout(ctx, time.Second)
		w.db(r).DeleteRange(wctx, replkv.Prefix("range-"))
		cancel()
		pauseFor(ctx, time.Duration(r.IntN(100))*time.Millisecond)
	}
}

// compact forgets all but some hundred revisions, now and then.
func (w *watchRun) compact(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		pauseFor(ctx, time.Duration(r.IntN(1000))*time.Millisecond)
		db := w.db(r)
		if rev := db.Status().Revision - replkv.Revision(r.IntN(200)); rev > 1 {
			db.Compact(ctx, rev)
		}
	}
}

// mirrored is a map that a WatchSnapshot keeps.
type mirrored struct {
	mu    sync.Mutex // protects the fields below
	state map[string]replkv.Item
	at    replkv.Revision
}

func (m *mirrored) reached() replkv.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *mirrored) follow(ctx, busy context.Context, t *testing.T, rng *rand.Rand, pick func(*rand.Rand) *replkv.DB) {
	for ctx.Err() == nil {
		m.mu.Lock()
		m.state = map[string]replkv.Item{} // another member: from the beginning
		m.mu.Unlock()
		db := pick(rng)
		for c, err := range kv.WatchSnapshot(ctx, db, replkv.All(), replkv.WithProgress(100*time.Millisecond)) {
			if err != nil {
				if db.Err() == nil && ctx.Err() == nil {
					t.Errorf("WatchSnapshot: %v", err)
				}
				break
			}
			m.mu.Lock()
			replay(m.state, c.Events)
			m.at = c.Revision
			m.mu.Unlock()
			if rng.IntN(20) == 0 {
				pauseFor(busy, time.Duration(rng.IntN(500))*time.Millisecond)
			}
		}
		pauseFor(ctx, 50*time.Millisecond)
	}
}
