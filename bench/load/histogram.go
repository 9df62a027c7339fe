package load

import (
	"math/bits"
	"time"
)

// A Histogram counts latencies in buckets of equal relative width, 1/64. Each
// caller has its own: recording is an index and an increment, without a lock.
type Histogram struct {
	counts [buckets]uint32
	n      uint64
	max    time.Duration
}

const (
	subBits = 6
	maxBits = 40 // 2^40 ns are 18 minutes; longer ones share the last bucket
	buckets = (maxBits-subBits-1)<<subBits + 2<<subBits
)

// Record counts d.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.max = max(h.max, d)
}

// Add counts all that o has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count is how many latencies were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the longest, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the latency that a share q of all did not exceed, within 1/128; 0
// if there was none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := max(uint64(q*float64(h.n)+0.999999), 1) // of the latencies in order, from 1
	for i, c := range h.counts {
		if uint64(c) >= rank {
			return min(middleOf(i), h.max)
		}
		rank -= uint64(c)
	}
	return h.max
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v >= 1<<maxBits {
		return buckets - 1
	}
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// middleOf is the inverse of bucketOf, but for the width of a bucket.
func middleOf(i int) time.Duration {
	if i < 2<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	low := uint64(i-shift<<subBits) << shift
	return time.Duration(low + (1<<shift)/2)
}
