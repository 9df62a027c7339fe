package replkvtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

// history is one writer's key: it alone writes 1, 2, 3, ... to it, so that
// everything a linearizable reader may see is known.
type history struct {
	key     string
	started atomic.Int64 // the newest value whose Set has begun
	acked   atomic.Int64 // the newest value whose Set has returned nil
	oks     atomic.Int64 // Sets that returned nil
	unknown atomic.Int64 // Sets of unknown outcome
	maybe   sync.Map     // their values: they may take effect at any later time
}

// TestFaults runs writers and readers on all members under crashes, partitions
// and one-way cuts, in virtual time. It demands that
//   - a linearizable Get returns a value no older than the last one acknowledged
//     before it began, and none that no Set has begun to write;
//   - every acknowledged Set was applied exactly once, one of unknown outcome at
//     most once, one that was "not done" never: Version counts them;
//   - the replicas end equal.
func TestFaults(t *testing.T) {
	t.Parallel()
	seeds, length := 4, 20*time.Second
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
			synctest.Test(t, func(t *testing.T) { runFaults(t, seed, length) })
		})
	}
}

func runFaults(t *testing.T, seed uint64, d time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		smallLogs(i, cfg)
		cfg.RequestTimeout = 3 * time.Second
	}))
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	// Restart replaces handles under the workers' feet.
	var mu sync.RWMutex
	db := func(r *rand.Rand) *replkv.DB {
		mu.RLock()
		defer mu.RUnlock()
		return c.DB(r.IntN(3))
	}
	var wg sync.WaitGroup
	var hs []*history
	reads := atomic.Int64{}
	for w := range 6 {
		h := &history{key: fmt.Sprintf("key-%d", w)}
		hs = append(hs, h)
		wr, rr := rand.New(rand.NewPCG(seed, uint64(w)+100)), rand.New(rand.NewPCG(seed, uint64(w)+200))
		wg.Go(func() { h.write(ctx, t, wr, db) })
		wg.Go(func() { h.read(ctx, t, rr, db, &reads) })
	}
	nemesis(ctx, c, rng, &mu)
	wg.Wait()
	c.Heal()
	for i := range c.Len() {
		if c.members[i].down {
			c.Restart(i)
		}
	}
	c.WaitReady()
	total := int64(0)
	for _, h := range hs {
		h.check(t, c.DB(0))
		total += h.oks.Load()
	}
	t.Logf("%d writes, %d reads checked", total, reads.Load())
	if total < 50 || reads.Load() < 50 {
		t.Errorf("too little happened to show anything")
	}
}

func (h *history) write(ctx context.Context, t *testing.T, r *rand.Rand, db func(*rand.Rand) *replkv.DB) {
	for ctx.Err() == nil {
		n := h.started.Add(1)
		wctx, cancel := context.WithTimeout(ctx, time.Duration(1+r.IntN(3000))*time.Millisecond)
		_, err := db(r).Set(wctx, h.key, binary.BigEndian.AppendUint64(nil, uint64(n)))
		cancel()
		switch replkv.OutcomeOf(err) {
		case replkv.OutcomeDone:
			h.acked.Store(n)
			h.oks.Add(1)
		case replkv.OutcomeUnknown:
			h.unknown.Add(1)
			h.maybe.Store(n, true)
			if !errors.Is(err, replkv.ErrOutcomeUnknown) {
				t.Errorf("an unknown outcome that does not say so: %v", err)
			}
		}
		pauseFor(ctx, time.Duration(r.IntN(20))*time.Millisecond)
	}
}

func (h *history) read(ctx context.Context, t *testing.T, r *rand.Rand, db func(*rand.Rand) *replkv.DB, reads *atomic.Int64) {
	for ctx.Err() == nil {
		least := h.acked.Load()
		item, err := db(r).Get(ctx, h.key)
		most := h.started.Load()
		got := int64(0)
		switch {
		case err == nil:
			got = int64(binary.BigEndian.Uint64(item.Value))
		case !errors.Is(err, replkv.ErrNotFound):
			pauseFor(ctx, 10*time.Millisecond)
			continue
		}
		if _, late := h.maybe.Load(got); got < least && !late || got > most {
			t.Errorf("Get(%s) = %d; %d was acknowledged before, %d is the newest begun", h.key, got, least, most)
		}
		reads.Add(1)
		pauseFor(ctx, time.Duration(r.IntN(10))*time.Millisecond)
	}
}

func (h *history) check(t *testing.T, db *replkv.DB) {
	item, err := db.Get(context.Background(), h.key)
	if err != nil {
		t.Errorf("Get(%s) at the end: %v", h.key, err)
		return
	}
	if oks := h.oks.Load(); item.Version < oks || item.Version > oks+h.unknown.Load() {
		t.Errorf("%s was written %d times; %d Sets were acknowledged, %d are unknown", h.key, item.Version, oks, h.unknown.Load())
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// nemesis does harm until ctx ends, to the leader more often than to others.
func nemesis(ctx context.Context, c *Cluster, rng *rand.Rand, mu *sync.RWMutex) {
	victim := func() int {
		if rng.IntN(2) == 0 {
			for i, m := range c.members {
				if !m.down && m.db.Status().Role == "leader" {
					return i
				}
			}
		}
		return rng.IntN(c.Len())
	}
	for ctx.Err() == nil {
		pauseFor(ctx, time.Duration(200+rng.IntN(800))*time.Millisecond)
		i := victim()
		mu.Lock()
		switch rng.IntN(6) {
		case 0, 1:
			if !c.members[i].down {
				c.Crash(i)
			}
		case 2:
			c.Partition([]int{(i + 1) % 3, (i + 2) % 3})
		case 3:
			c.Cut(i, (i+1)%3)
			if rng.IntN(2) == 0 {
				c.Cut(i, (i+2)%3)
			}
		default:
			c.Heal()
		}
		for j, m := range c.members {
			if m.down && rng.IntN(2) == 0 {
				c.open(j)
			}
		}
		mu.Unlock()
	}
}
