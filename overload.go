package replkv

import (
	"sync"
	"time"
)

// applyWatch gives up on an apply that takes longer than the write deadline: a leader
// whose state's disk hangs would keep its office, and nothing be answered.
//
// Not on one that gets on, which all members would have to do, and again at each start:
//   - it reads one row after the other, because operations ask for many;
//   - it waits because more is written than the disk, or the processors, can merge
//     (Pebble's write stalls), and tables get done meanwhile. Measured before: 512
//     callers with values of 1000 bytes, three members on two cores, stopped a member
//     within a minute.
//
// That is overload, which writers feel, and which ends.
type applyWatch struct {
	deadline time.Duration
	progress func() (looks int64, stalled bool, tables int64)
	fail     func()

	mu            sync.Mutex // protects the fields below
	timer         *time.Timer
	looks, tables int64
	over          bool
}

func watchApply(deadline time.Duration, progress func() (looks int64, stalled bool, tables int64), fail func()) *applyWatch {
	w := &applyWatch{deadline: deadline, progress: progress, fail: fail}
	w.looks, _, w.tables = progress()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(deadline, w.ring)
	return w
}

func (w *applyWatch) ring() {
	looks, stalled, tables := w.progress()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case looks != w.looks, stalled && tables != w.tables:
		w.looks, w.tables = looks, tables
		w.timer.Reset(w.deadline)
	default:
		w.over = true
		go w.fail() // it may want what the apply holds
	}
}

// stop is called when the apply is done.
func (w *applyWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// maxPace bounds a pause: that a compaction has ended is noticed so soon.
const maxPace = time.Second

// pace is how long a leader waits after an entry that took so long, and a follower with
// its answer to one, while the merging of what is written lags (store.Pressure): the
// more, the less is written, until both meet. Callers then wait evenly, with more of
// them in each entry, instead of for seconds when Pebble stops writes.
//
// Followers wait, too, since theirs may lag more than the leader's: else those stop at
// the end, and where a quorum needs them, all callers time out. So a quorum is as slow
// as the disks of its members, and a follower that no quorum needs slows down nobody.
//
// Rejected: a pause in apply, which holds up what is committed, too, and with it reads.
func pace(took time.Duration, pressure float64) time.Duration {
	if pressure >= 1 {
		return maxPace
	}
	// With a factor of 1 the depth still rose to where writes stop: a compaction
	// takes seconds, and only then does the pressure fall.
	return time.Duration(min(float64(maxPace), 4*float64(took)*pressure/(1-pressure)))
}

func (db *DB) pace(took time.Duration) time.Duration { return pace(took, db.state.Pressure()) }
