package faultfs

import (
	"errors"
	"sync"
	"time"
)

// Fault is asked before each operation, without locks, on the goroutine that
// makes it. nil: the operation happens. ErrSkip: it answers success and does
// not happen. Another error is the operation's. It may wait.
type Fault func(Op) error

// ErrSkip is how a disk lies. An operation that returns a file fails with it.
var ErrSkip = errors.New("faultfs: skipped")

// Fail has operations fail with err where when says so.
func Fail(err error, when func(Op) bool) Fault {
	return func(o Op) error {
		if when(o) {
			return err
		}
		return nil
	}
}

// From is true of the n-th mutating operation and all after it.
func From(n int) func(Op) bool { return func(o Op) bool { return o.N >= n } }

// Window is true of count mutating operations from the n-th on.
func Window(n, count int) func(Op) bool {
	return func(o Op) bool { return o.N >= n && o.N < n+count }
}

// Of is true of operations of these kinds whose path contains part.
func Of(kinds Kind, part string) func(Op) bool {
	return func(o Op) bool { return o.Is(kinds, part) }
}

// Slow delays operations by d where when says so.
func Slow(d time.Duration, when func(Op) bool) Fault {
	return func(o Op) error {
		if when(o) {
			timer := time.NewTimer(d)
			defer timer.Stop()
			<-timer.C
		}
		return nil
	}
}

// Hang is a disk that does not answer until it is released.
type Hang struct {
	when    func(Op) bool
	reached chan struct{}
	release chan struct{}
	once    sync.Once
	freed   sync.Once
}

// NewHang hangs operations where when says so.
func NewHang(when func(Op) bool) *Hang {
	return &Hang{when: when, reached: make(chan struct{}), release: make(chan struct{})}
}

// Fault is what hangs.
func (h *Hang) Fault(o Op) error {
	if h.when(o) {
		h.once.Do(func() { close(h.reached) })
		<-h.release
	}
	return nil
}

// Reached is closed when an operation hangs.
func (h *Hang) Reached() <-chan struct{} { return h.reached }

// Release lets the operations go on, those to come too.
func (h *Hang) Release() { h.freed.Do(func() { close(h.release) }) }
