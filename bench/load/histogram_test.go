package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	last := -1
	for v := time.Duration(0); v < 1<<maxBits; v += max(v/200, 1) {
		i := bucketOf(v)
		if i < last || i > last+1 || i >= buckets {
			t.Fatalf("%d is in bucket %d of %d, the one before in %d", v, i, buckets, last)
		}
		last = i
		if m := middleOf(i); m < v-v/64 || m > v+v/64 {
			t.Fatalf("%d is told as %d", v, m)
		}
	}
	if last != buckets-1 {
		t.Errorf("the last bucket in use is %d of %d", last, buckets)
	}
	if bucketOf(1<<50) != buckets-1 || bucketOf(-1) != 0 {
		t.Error("latencies outside the range are not in the first and last bucket")
	}
}

func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a, b Histogram
	var all []time.Duration
	for i := range 20_001 {
		d := time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	a.Add(&b)
	slices.Sort(all)
	if a.Count() != uint64(len(all)) || a.Max() != all[len(all)-1] {
		t.Errorf("count %d, max %v; want %d, %v", a.Count(), a.Max(), len(all), all[len(all)-1])
	}
	for _, q := range []float64{0.5, 0.95, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if got := a.Quantile(q); got < want-want/50 || got > want+want/50 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if new(Histogram).Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
}
