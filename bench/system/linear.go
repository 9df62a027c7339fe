package system

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// LinearCheck is the outcome of reading counters that grow.
type LinearCheck struct {
	Writes  int64   `json:"writes"`
	Reads   []int64 `json:"reads"` // by member, the leader first
	Stale   int64   `json:"stale"` // older than what was acknowledged or read before they began
	Example string  `json:"example,omitempty"`
}

const (
	linearWriters        = 4
	linearReadersPerNode = 6
)

// counter has one writer, so that its values in the store only grow.
type counter struct {
	key   string
	floor atomic.Int64 // the newest value known to anybody: acknowledged, or read
}

// linear lets writers count up through the leader while readers on each member
// check that nothing is older than what was known before they began to read.
// It is not a proof: it finds reads that do not ask the leader.
func linear(s System, d time.Duration, emit func(any) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d+30*time.Second)
	defer cancel()
	counters := make([]*counter, linearWriters)
	for i := range counters {
		counters[i] = &counter{key: fmt.Sprint("counter-", i)}
		if err := s.Set(ctx, counters[i].key, []byte("0")); err != nil {
			return err
		}
	}
	var (
		wg     sync.WaitGroup
		writes atomic.Int64
		stale  atomic.Int64
		first  sync.Once
		out    = LinearCheck{Reads: make([]int64, s.Readers())}
		errs   = make(chan error, 1)
		until  = time.Now().Add(d)
	)
	fail := func(err error) {
		select {
		case errs <- err:
		default:
		}
	}
	for _, c := range counters {
		wg.Go(func() {
			for n := int64(1); time.Now().Before(until); n++ {
				if err := s.Set(ctx, c.key, strconv.AppendInt(nil, n, 10)); err != nil {
					fail(err)
					return
				}
				c.raise(n)
				writes.Add(1)
			}
		})
	}
	for r := range s.Readers() * linearReadersPerNode {
		wg.Go(func() {
			member := r % s.Readers()
			for i := r; time.Now().Before(until); i++ {
				c := counters[i%len(counters)]
				floor := c.floor.Load()
				v, err := s.GetAny(ctx, member, c.key)
				if err != nil {
					fail(err)
					return
				}
				got, err := strconv.ParseInt(string(v), 10, 64)
				if err != nil {
					fail(err)
					return
				}
				atomic.AddInt64(&out.Reads[member], 1)
				if got < floor {
					stale.Add(1)
					first.Do(func() {
						out.Example = fmt.Sprintf("%s on member %d: %d was read after %d was known", c.key, member, got, floor)
					})
				}
				c.raise(got)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	out.Writes, out.Stale = writes.Load(), stale.Load()
	return emit(out)
}

func (c *counter) raise(n int64) {
	for {
		old := c.floor.Load()
		if old >= n || c.floor.CompareAndSwap(old, n) {
			return
		}
	}
}
