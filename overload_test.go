package replkv

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestApplyWatch: an apply that takes too long is given up on, unless it reads, or waits
// for merges that get on.
func TestApplyWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deadline = 10 * time.Second
		var stalled atomic.Bool
		var looks, tables atomic.Int64
		begin := func() (*applyWatch, func() int) {
			var fails atomic.Int64
			w := watchApply(deadline, func() (int64, bool, int64) { return looks.Load(), stalled.Load(), tables.Load() }, func() { fails.Add(1) })
			return w, func() int { return int(fails.Load()) }
		}
		pass := func(d time.Duration) { synctest.Wait(); time.Sleep(d); synctest.Wait() }

		w, fails := begin()
		pass(deadline - time.Millisecond)
		w.stop()
		pass(2 * deadline)
		if fails() != 0 {
			t.Error("failed an apply that was done in time")
		}

		_, fails = begin()
		tables.Add(1) // without a stall: other work goes on, the apply hangs
		pass(deadline)
		if fails() != 1 {
			t.Errorf("an apply that hangs: failed %d times", fails())
		}

		w, fails = begin()
		for range 5 {
			looks.Add(1)
			pass(deadline)
		}
		if fails() != 0 {
			t.Error("failed an apply that reads")
		}
		w.stop()

		stalled.Store(true)
		w, fails = begin()
		for range 5 {
			tables.Add(1)
			pass(deadline)
		}
		if fails() != 0 {
			t.Error("failed an apply that waits for merges that get on")
		}
		pass(deadline)
		if fails() != 1 {
			t.Errorf("merges that hang: failed %d times", fails())
		}
		w.stop()
		pass(3 * deadline)
		if fails() != 1 {
			t.Errorf("failed %d times", fails())
		}
	})
}

// TestPace: without pressure nobody waits; the pause rises with it, in proportion to
// what an entry takes, and has an end.
func TestPace(t *testing.T) {
	const took = 2 * time.Millisecond
	if p := pace(took, 0); p != 0 {
		t.Errorf("no pressure: %v", p)
	}
	before := time.Duration(0)
	for x := 0.1; x < 0.95; x += 0.1 {
		p := pace(took, x)
		if p <= before || p > maxPace {
			t.Errorf("pressure %.1f: %v after %v", x, p, before)
		}
		if twice := pace(2*took, x); (twice - 2*p).Abs() > time.Microsecond {
			t.Errorf("pressure %.1f: %v for an entry of %v, %v for one of twice that", x, p, took, twice)
		}
		before = p
	}
	for _, x := range []float64{1 - 1e-9, 1} {
		if p := pace(took, x); p != maxPace {
			t.Errorf("full pressure, %v: %v", x, p)
		}
	}
	if p := pace(time.Minute, 0.5); p != maxPace {
		t.Errorf("a long entry: %v", p)
	}
}
