package load

import (
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// A Spec says what is done and for how long.
type Spec struct {
	Callers  int
	Warmup   time.Duration // before measuring, under the same load
	Duration time.Duration // measured
	Op       func(ctx context.Context, c *Caller) error
}

// A Caller does one operation at a time.
type Caller struct {
	Index int
	Rand  *rand.Rand

	latency  Histogram
	ops      int64
	errors   int64
	firstErr error
}

// patience is how long an operation may go on after the end of the run.
const patience = 15 * time.Second

// Run drives op by so many callers and returns what was measured between the
// end of the warm-up and the end of the run.
func Run(spec Spec) Measure {
	runtime.GC()
	debug.FreeOSMemory() // the peak is to be that of this run
	callers := make([]*Caller, spec.Callers)
	for i := range callers {
		callers[i] = &Caller{Index: i, Rand: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))}
	}
	begin := time.Now().Add(spec.Warmup)
	end := begin.Add(spec.Duration)
	var wg sync.WaitGroup
	for _, c := range callers {
		wg.Go(func() { c.loop(spec.Op, begin, end) })
	}
	time.Sleep(time.Until(begin))
	resetPeak()
	before := usage()
	time.Sleep(time.Until(end))
	after := usage()
	wg.Wait()
	return sum(callers, spec, before, after)
}

// loop counts as operations of the run those that end in it, and as latencies
// also those of operations that the end of the run cuts off: a stall at the end
// does not hide.
func (c *Caller) loop(op func(context.Context, *Caller) error, begin, end time.Time) {
	// A context of its own: a shared one would be a lock that all callers take
	// wherever a system derives another from it. It has a deadline, as
	// dragonboat requires; etcd and replkv bound calls without one themselves.
	ctx, cancel := context.WithDeadline(context.Background(), end.Add(patience))
	defer cancel()
	for start := time.Now(); start.Before(end); {
		err := op(ctx, c)
		now := time.Now()
		if now.After(begin) {
			c.record(err, now.Sub(start), now.Before(end))
		}
		start = now
	}
}

func (c *Caller) record(err error, d time.Duration, inTime bool) {
	switch {
	case err != nil:
		c.errors++
		if c.firstErr == nil {
			c.firstErr = err
		}
		return
	case inTime:
		c.ops++
	}
	c.latency.Record(d)
}

// Each does op once for every i below n, by so many callers. It returns the first
// error.
func Each(ctx context.Context, callers, n int, op func(ctx context.Context, i int, rng *rand.Rand) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 7))
			for i := c; i < n && ctx.Err() == nil; i += callers {
				if err := op(ctx, i, rng); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
