package memnet

import (
	"sync"
	"time"
)

// A deadline is a channel that is closed when a time has passed, and a new one
// when the time is changed after that. (net.Pipe's is not exported.)
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	ch    chan struct{}
}

func newDeadline() *deadline { return &deadline{ch: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ch
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	closed := isClosed(d.ch)
	switch until := time.Until(t); {
	case t.IsZero() || until > 0:
		if closed {
			d.ch = make(chan struct{})
		}
		if !t.IsZero() {
			d.startLocked(until)
		}
	case !closed:
		close(d.ch)
	}
}

// startLocked makes a timer that closes the present channel, unless the
// deadline was set anew meanwhile.
func (d *deadline) startLocked(until time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(until, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer && !isClosed(d.ch) {
			close(d.ch)
		}
	})
	d.timer = timer
}

func isClosed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
