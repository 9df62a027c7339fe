package replkv

import (
	"sync"
	"time"
)

// applyWatch gives up on an apply that takes longer than the write deadline: a leader
// whose state's disk hangs would keep its office, and nothing be answered.
//
// Not on one that waits because more is written than the disk, or the processors,
// can merge (Pebble's write stalls), as long as tables get done meanwhile: that is
// overload, which writers feel, and which ends. Measured before: 512 callers with
// values of 1000 bytes, three members on two cores, stopped a member within a minute.
type applyWatch struct {
	deadline time.Duration
	stall    func() (stalled bool, progress int64)
	fail     func()

	mu       sync.Mutex // protects the fields below
	timer    *time.Timer
	progress int64
	over     bool
}

func watchApply(deadline time.Duration, stall func() (bool, int64), fail func()) *applyWatch {
	w := &applyWatch{deadline: deadline, stall: stall, fail: fail}
	_, w.progress = stall()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(deadline, w.ring)
	return w
}

func (w *applyWatch) ring() {
	stalled, progress := w.stall()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case stalled && progress != w.progress:
		w.progress = progress
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
