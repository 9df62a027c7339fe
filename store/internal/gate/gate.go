// Package gate lets calls into an engine until it closes.
package gate

import "sync"

// Gate counts the calls inside an engine, so that its close can wait for them: a
// closed Pebble panics, and bolt takes its memory map away at once.
type Gate struct {
	mu struct { // protects the fields below; held for a few instructions
		sync.Mutex
		closed bool
		inside int
	}
	idle chan struct{} // closed once the gate is closed and nobody is inside
}

// New returns an open gate.
func New() *Gate { return &Gate{idle: make(chan struct{})} }

// Enter says whether the gate is open; if so, Leave must follow.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return false
	}
	g.mu.inside++
	return true
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.inside--
	g.signalLocked()
}

// Close lets nobody in any more. It is called once.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.closed = true
	g.signalLocked()
}

func (g *Gate) signalLocked() {
	if g.mu.closed && g.mu.inside == 0 {
		close(g.idle)
	}
}

// Idle is closed once the gate is and nobody is inside.
func (g *Gate) Idle() <-chan struct{} { return g.idle }
