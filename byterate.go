package replkv

import (
	"context"
	"sync"
	"time"
)

// byteRate is a token bucket for bytes. Who waits has reserved its bytes, in
// the order of the calls; no lock is held meanwhile.
type byteRate struct {
	perSecond int64 // at or below 0: no limit

	mu   sync.Mutex // protects free
	free time.Time  // when all bytes reserved so far may have gone
}

// rateSlack is what an idle or late sender may catch up. Why not shorter:
// timers fire a millisecond or two late, which would lower the rate. Why not
// longer: a burst is what the limit is against.
const rateSlack = 20 * time.Millisecond

// wait returns when n more bytes may go, or with the cause of ctx once that is
// done.
func (r *byteRate) wait(ctx context.Context, n int) error {
	if r.perSecond <= 0 {
		return nil
	}
	now := time.Now()
	r.mu.Lock()
	if oldest := now.Add(-rateSlack); r.free.Before(oldest) {
		r.free = oldest
	}
	r.free = r.free.Add(time.Duration(float64(n) / float64(r.perSecond) * float64(time.Second)))
	d := r.free.Sub(now)
	r.mu.Unlock()
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
