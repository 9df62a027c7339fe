package boltlog

import "sync"

// gate counts the calls inside bolt, so that Close waits for them: bolt takes
// its memory map away at once.
type gate struct {
	mu struct { // protects the fields below; held for a few instructions
		sync.Mutex
		closed bool
		inside int
	}
	idle chan struct{} // closed once the gate is closed and nobody is inside
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

// enter says whether the gate is open; if so, leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return false
	}
	g.mu.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.inside--
	g.signalLocked()
}

// close lets nobody in any more. It is called once.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.closed = true
	g.signalLocked()
}

func (g *gate) signalLocked() {
	if g.mu.closed && g.mu.inside == 0 {
		close(g.idle)
	}
}
