package load

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	m := Run(Spec{Callers: 4, Warmup: 20 * time.Millisecond, Duration: 200 * time.Millisecond,
		Op: func(ctx context.Context, c *Caller) error {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("no deadline")
			}
			time.Sleep(2 * time.Millisecond)
			if c.Index == 3 {
				return errors.New("refused")
			}
			return nil
		}})
	if m.Ops == 0 || m.Ops > 300 || m.Errors == 0 || m.Errors > 100 || m.FirstError != "refused" || m.Callers != 4 {
		t.Errorf("%+v", m)
	}
	if m.P50Micros < 2000 || m.P50Micros > m.P95Micros || m.P95Micros > m.P99Micros || m.P99Micros > m.MaxMicros {
		t.Errorf("latencies: %+v", m)
	}
	if got := float64(m.Ops) / 0.2; m.OpsPerSecond != got {
		t.Errorf("%v ops/s, want %v", m.OpsPerSecond, got)
	}
}

func TestSum(t *testing.T) {
	a, b := &Caller{}, &Caller{}
	a.record(nil, time.Millisecond, true)
	a.record(nil, 3*time.Millisecond, false) // cut off by the end: a latency, no operation
	b.record(errors.New("no"), time.Hour, true)
	m := sum([]*Caller{a, b}, Spec{Callers: 2, Duration: time.Second},
		used{cpu: time.Second, machine: time.Second, written: 100, mallocs: 5, peak: 1 << 30},
		used{cpu: 3 * time.Second, machine: 3500 * time.Millisecond, written: 400, mallocs: 15, peak: 2e6})
	want := Measure{Callers: 2, Seconds: 1, Ops: 1, Errors: 1, FirstError: "no", OpsPerSecond: 1,
		P50Micros: m.P50Micros, P95Micros: m.P99Micros, P99Micros: m.P99Micros, MaxMicros: 3000,
		CPUSecondsPerKop: 2000, PeakRSSMB: 2, WrittenPerOp: 300, AllocsPerOp: 10, OthersCPU: 0.5}
	if m != want {
		t.Errorf("%+v\nwant %+v", m, want)
	}
	if m.P50Micros < 980 || m.P50Micros > 1020 || m.P99Micros < 2950 || m.P99Micros > 3000 {
		t.Errorf("median %v, p99 %v", m.P50Micros, m.P99Micros)
	}
}

func TestEach(t *testing.T) {
	var done [100]atomic.Int32
	err := Each(t.Context(), 7, len(done), func(_ context.Context, i int, _ *rand.Rand) error {
		done[i].Add(1)
		return nil
	})
	for i := range done {
		if done[i].Load() != 1 {
			t.Errorf("%d was done %d times", i, done[i].Load())
		}
	}
	if err != nil {
		t.Error(err)
	}
	no := errors.New("no")
	if err := Each(t.Context(), 3, 10, func(_ context.Context, i int, _ *rand.Rand) error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
}

func TestData(t *testing.T) {
	d := NewData(1000, 256)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		if k, v := d.Key(rng), d.Value(rng); len(k) != 16 || len(v) != 256 || cap(v) != 256 {
			t.Fatalf("key %q, value of %d", k, len(v))
		}
	}
}

func TestBusy(t *testing.T) {
	line := []byte("cpu  1 2 4 1000 1000 8 16 32 999 999")
	if got := busy(bytes.Fields(line)); got != 630*time.Millisecond {
		t.Error(got)
	}
	if busy(bytes.Fields(line[:20])) != 0 || busy(nil) != 0 {
		t.Error("half a line is read")
	}
}
