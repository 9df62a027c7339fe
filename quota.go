package replkv

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// quota keeps the state from outgrowing Config.QuotaBytes. Whether it has is for
// the leader to say, by the size of its own state; it tells the others in its
// answers to forwarded batches and read indexes. An operation that makes the state
// grow is refused before it is queued, by the member that was asked for it. What
// was queued before goes on: its retries must find what they would have found.
//
// Never in apply, where members of unlike size would differ. Deletes, Revoke and
// Compact are never refused, nor is what members say to each other through the
// log: that is how the store gets below its limit again.
type quota struct {
	db   *DB
	wake chan struct{} // capacity 1: the leader has said that the quota is exceeded
	born time.Time     // told counts from here, by the monotonic clock

	size     atomic.Int64 // of this member's state, when it was measured last
	exceeded atomic.Bool  // by that size; it counts while this member leads
	told     atomic.Int64 // until when the leader's word that it is exceeded counts; 0: it has not said so

	shown bool // what was logged last; the goroutine's own
}

const (
	// quotaEvery is how often the state is measured, and how often a member that
	// was told that the quota is exceeded asks whether it still is.
	quotaEvery = time.Second
	// quotaWord is how long the leader's word counts. Why not longer: a member
	// without a leader should say just that. Why not shorter: one that asks each
	// second hears anew before it ends, and lets nothing through meanwhile.
	quotaWord = 3 * time.Second
	// quotaSlack, a part of the quota, is how far below it the state must get
	// before it grows again: at the limit itself, the verdict would change with
	// each file that Pebble writes.
	quotaSlack = 32
	// reclaimEvery is how often a state that is near its quota is looked through for
	// garbage; reclaimNear, a part of the quota, is how near that is. Then a piece of
	// it is compacted if one in reclaimEasily bytes is garbage, and when the quota is
	// exceeded one in reclaimHard: writing is dear, but nobody else writes.
	reclaimEvery  = 2 * time.Second
	reclaimNear   = 8
	reclaimEasily = 8
	reclaimHard   = 64
	// minQuotaBytes leaves room for what a store without data writes of itself.
	minQuotaBytes = 1 << 20
)

func (q *quota) init(db *DB) {
	q.db, q.wake, q.born = db, make(chan struct{}, 1), time.Now()
	q.measure() // before anybody asks
}

// grows says whether an operation makes the state larger for good.
func grows(op *command.Op) bool {
	switch op.Kind {
	case command.Set, command.Grant:
		return true
	case command.Txn:
		return puts(op.Txn)
	}
	return false
}

// puts says whether a transaction puts anything, on any way through it: which one
// it takes, apply decides.
func puts(t *kv.Txn) bool {
	for _, branch := range [][]kv.Op{t.Then, t.Else} {
		for i := range branch {
			if op := &branch[i]; op.Kind == kv.OpSet || op.Kind == kv.OpTxn && puts(op.Txn) {
				return true
			}
		}
	}
	return false
}

// admit refuses an operation that would make the state grow beyond the quota.
func (q *quota) admit(op *command.Op) error {
	if !q.exceeded.Load() && q.told.Load() == 0 || !grows(op) {
		return nil
	}
	return q.refusal()
}

// refusal is why operations are refused now; nil if they are not.
func (q *quota) refusal() error {
	_, _, leads := q.db.leader()
	switch {
	case leads && q.exceeded.Load():
		return fmt.Errorf("%w: the state has %d bytes, the limit is %d", ErrQuota, q.size.Load(), q.db.cfg.QuotaBytes)
	case !leads && q.hasWord():
		return fmt.Errorf("%w, says the leader", ErrQuota)
	}
	return nil
}

// verdict is what this member tells others: they ask it as the leader.
func (q *quota) verdict() bool { return q.exceeded.Load() }

// hear takes what the leader said with an answer.
func (q *quota) hear(exceeded bool) {
	if !exceeded {
		if q.told.Load() != 0 {
			q.told.Store(0)
		}
		return
	}
	q.told.Store(int64(time.Since(q.born) + quotaWord))
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// hasWord says whether the leader's word that the quota is exceeded still counts.
func (q *quota) hasWord() bool { return int64(time.Since(q.born)) < q.told.Load() }

// run measures, and asks, until the store closes. Without a quota, here and at the
// leader, it only waits.
func (q *quota) run() {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-q.db.ctx.Done():
			return
		case <-q.wake:
			if q.shown { // not new: the timer runs
				continue
			}
		case <-next.C:
		}
		q.measure()
		q.ask()
		q.show()
		if q.db.cfg.QuotaBytes > 0 || q.told.Load() != 0 {
			next.Reset(quotaEvery)
		}
	}
}

// measure compares the state with the quota.
func (q *quota) measure() {
	limit := q.db.cfg.QuotaBytes
	if limit == 0 {
		return
	}
	size, err := q.db.state.LiveSize()
	if err != nil { // it closes
		return
	}
	q.size.Store(size)
	q.exceeded.Store(exceeds(size, limit, q.exceeded.Load()))
}

func exceeds(size, limit int64, before bool) bool {
	if before {
		limit -= limit / quotaSlack
	}
	return size >= limit
}

// ask renews the leader's word by way of a read index, if it was that the quota is
// exceeded: else one batch after the other would have to try.
func (q *quota) ask() {
	if q.told.Load() == 0 {
		return
	}
	if _, _, leads := q.db.leader(); !leads {
		ctx, cancel := context.WithTimeout(q.db.ctx, quotaEvery)
		defer cancel()
		q.db.reads.join(ctx, ctx) // hear has the answer
	}
	if until := q.told.Load(); until <= int64(time.Since(q.born)) {
		q.told.CompareAndSwap(until, 0)
	}
}

// show tells operators of a change.
func (q *quota) show() {
	err := q.refusal()
	if (err != nil) == q.shown {
		return
	}
	q.shown = err != nil
	if q.shown {
		q.db.log.Warn("writes that need room are refused", "reason", err, "bytes", q.size.Load())
	} else {
		q.db.log.Info("the state is within its quota again", "bytes", q.size.Load())
	}
	q.db.events.quota(QuotaEvent{Exceeded: q.shown, StateBytes: q.size.Load(), QuotaBytes: q.db.cfg.QuotaBytes})
}

// reclaim has the room of what was removed given back when the state comes near the
// quota, on every member for its own: Pebble alone does it when more is written, and
// nothing may be. Before the quota is reached, too, so that garbage refuses nothing.
func (q *quota) reclaim() {
	limit := q.db.cfg.QuotaBytes
	if limit == 0 {
		return
	}
	tick := time.NewTicker(reclaimEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.db.ctx.Done():
			return
		case <-tick.C:
		}
		if q.size.Load() < limit-limit/reclaimNear {
			continue
		}
		part := uint64(reclaimEasily)
		if q.exceeded.Load() {
			part = reclaimHard
		}
		if err := q.db.state.Reclaim(q.db.ctx, part); err != nil && q.db.ctx.Err() == nil {
			q.db.log.Warn("the room of what was removed could not be given back", "error", err)
		}
	}
}
