package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
)

// memory measures the resident memory of members with much data under Sets,
// linearizable Gets and Scans.
func memory(o *options) error {
	c, err := openCluster(o, "memory", o.members, nil)
	if err != nil {
		return err
	}
	defer c.close()
	w := watchRSS()
	if err := fill(c.lead(), o); err != nil {
		return err
	}
	w.report("memory", fmt.Sprintf("%d members, filling %.1f GB each", o.members, float64(o.size)/1e9))
	db := c.lead()
	for _, kind := range []string{"Set", "Get", "Scan", "all three"} {
		w.reset()
		var n atomic.Int64
		end := time.Now().Add(o.window)
		err := callers(o.callers, func(rng *rand.Rand) (bool, error) {
			n.Add(1)
			k := kind
			if k == "all three" {
				k = []string{"Set", "Get", "Scan"}[rng.IntN(3)]
			}
			return time.Now().Before(end), one(db, k, rng, o)
		})
		if err != nil {
			return err
		}
		w.report("memory", fmt.Sprintf("%s by %d callers, %.0f/s", kind, o.callers, float64(n.Load())/o.window.Seconds()))
	}
	w.end()
	return nil
}

// one does one operation; a Scan is of 100 keys.
func one(db *replkv.DB, kind string, rng *rand.Rand, o *options) error {
	ctx, k := context.Background(), key(rng.IntN(o.keys()))
	switch kind {
	case "Set":
		_, err := db.Set(ctx, k, value(rng, o.value))
		return err
	case "Get":
		_, err := db.Get(ctx, k)
		return err
	}
	n := 0
	for _, err := range db.Scan(ctx, replkv.From(k), replkv.Limit(100)) {
		if err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return errors.New("a scan found nothing")
	}
	return nil
}

// peak measures the resident memory of the members under 512 callers on few
// keys, as the throughput benchmarks do.
func peak(o *options) error {
	c, err := openCluster(o, "peak", 3, nil)
	if err != nil {
		return err
	}
	defer c.close()
	w := watchRSS()
	db := c.lead()
	var n atomic.Int64
	end := time.Now().Add(o.window)
	err = callers(512, func(rng *rand.Rand) (bool, error) {
		n.Add(1)
		_, err := db.Set(context.Background(), key(rng.IntN(100_000)), value(rng, 256))
		return time.Now().Before(end), err
	})
	if o.heap != "" {
		err = errors.Join(err, heapProfile(o.heap))
	}
	for i, db := range c.dbs {
		h := db.Metrics().SyncLatency
		result("peak", "m%d (%s): appends to the log: p50 below %v ms, p99 below %v ms", i, db.Status().Role, bucket(h, .5), bucket(h, .99))
	}
	w.report("peak", fmt.Sprintf("3 members, Set of 256 bytes by 512 callers, %.0f/s (bar 500 MB, goal 400)", float64(n.Load())/o.window.Seconds()))
	w.end()
	return err
}

// bucket is the upper bound of a histogram's quantile, in milliseconds.
func bucket(h replkv.Histogram, q float64) float64 {
	total, sum := uint64(0), uint64(0)
	for _, n := range h.Counts {
		total += n
	}
	for i, n := range h.Counts {
		if sum += n; float64(sum) >= q*float64(total) && i < len(h.Bounds) {
			return h.Bounds[i] * 1000
		}
	}
	return math.Inf(1)
}

// heapProfile shows what was live at the newest collection.
func heapProfile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// rssWatch samples the memory of this process.
type rssWatch struct {
	peak, heap atomic.Int64
	stop, done chan struct{}
}

func watchRSS() *rssWatch {
	w := &rssWatch{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.peak.Store(max(w.peak.Load(), rss()))
				w.heap.Store(max(w.heap.Load(), goMemory()))
			case <-w.stop:
				return
			}
		}
	}()
	return w
}

func (w *rssWatch) reset() { w.peak.Store(0); w.heap.Store(0) }

func (w *rssWatch) report(scenario, what string) {
	result(scenario, "%s: peak RSS %d MB, of it Go's at most %d MB; generator's pool included, %d MB", what, w.peak.Load()/1e6, w.heap.Load()/1e6, len(pool())/1_000_000)
}

func (w *rssWatch) end() { close(w.stop); <-w.done }

// rss is what the kernel says.
func rss() int64 {
	b, _ := os.ReadFile("/proc/self/statm")
	var size, resident int64
	fmt.Fscan(strings.NewReader(string(b)), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// goMemory is what Go's runtime has and not given back. Pebble's memtables and
// block cache are not in it where cgo is on.
func goMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}
