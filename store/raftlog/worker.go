package raftlog

import (
	"fmt"
	"sync"
	"time"
)

// worker runs writes one after the other on a goroutine of its own, so that
// their callers get away when the disk hangs or Pebble parks the goroutine
// that met a fatal error. A job that its caller gave up may still run.
//
// Invariant: a caller gives up only once failed is recorded, and a job that
// has not begun by then never does.
type worker struct {
	failed *failure
	jobs   chan *job
	quit   chan struct{}
	once   sync.Once
	ended  chan struct{} // closed when the goroutine is gone
}

type job struct {
	fn   func() error
	err  error
	done chan struct{}
}

func startWorker(failed *failure) *worker {
	w := &worker{failed: failed, jobs: make(chan *job), quit: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

func (w *worker) run() {
	defer close(w.ended)
	for {
		select {
		case <-w.quit:
			return
		case j := <-w.jobs:
			if j.err = w.failed.err(); j.err == nil {
				j.err = j.fn()
			}
			close(j.done)
		}
	}
}

// do runs fn on the worker. It returns early with the fatal error when one is
// recorded, also by itself after deadline (if positive) has passed.
func (w *worker) do(op string, deadline time.Duration, fn func() error) error {
	if err := w.failed.err(); err != nil {
		return err
	}
	var expired <-chan time.Time
	if deadline > 0 {
		timer := time.NewTimer(deadline)
		defer timer.Stop()
		expired = timer.C
	}
	j := &job{fn: fn, done: make(chan struct{})}
	jobs := w.jobs
	for {
		select {
		case jobs <- j:
			jobs = nil
		case <-j.done:
			return j.err
		case <-w.failed.ch:
			return w.failed.err()
		case <-w.quit:
			if jobs != nil {
				return ErrClosed
			}
			// The job has begun: wait for its outcome.
			select {
			case <-j.done:
				return j.err
			case <-w.failed.ch:
				return w.failed.err()
			case <-expired:
				return w.failed.fail(stalled(op, deadline))
			}
		case <-expired:
			return w.failed.fail(stalled(op, deadline))
		}
	}
}

// end has the goroutine end after the job that it runs.
func (w *worker) end() { w.once.Do(func() { close(w.quit) }) }

// stop ends the goroutine, and waits for it unless it may be stuck for ever.
func (w *worker) stop() {
	w.end()
	select {
	case <-w.ended:
	case <-w.failed.ch:
	}
}

func stalled(op string, deadline time.Duration) error {
	return fmt.Errorf("%w: %s took longer than %v", ErrStalled, op, deadline)
}
