package raftlog

import (
	"sort"
	"sync"
	"time"
)

// maxPins bounds the pins: far more than a cluster has members. One too many
// ends the one without progress for longest.
const maxPins = 64

// pins are the promises that hold back the deletion of a prefix.
type pins struct {
	mu sync.Mutex // protects the fields below and those of the pins
	// Invariant: no entry at or above index of a pin in held was deleted as
	// part of a prefix since it was pinned.
	held map[*Pin]struct{}
	// floor is the lowest index that no deletion of a prefix was allowed to reach.
	floor uint64
}

// Pin keeps a part of the log for a follower that is being fed a snapshot.
type Pin struct {
	guard    *Guard
	index    uint64
	bytes    int64     // that it may keep at least, whatever GuardOptions.PinBytes says
	progress time.Time // of the last sign of progress
}

// Pin keeps the entries at index and above from being deleted as part of a
// prefix, until Release, or until the pin is lost: it keeps more than
// GuardOptions.PinBytes (but see Allow), or showed no progress for PinTimeout. The limits are
// looked at when raft compacts its log. It reports false, and keeps nothing,
// if part of those entries may be gone already.
func (g *Guard) Pin(index uint64) (*Pin, bool) {
	g.pins.mu.Lock()
	defer g.pins.mu.Unlock()
	p := &Pin{guard: g, index: index, progress: time.Now()}
	if first, err := g.store.FirstIndex(); err != nil || index < max(first, g.pins.floor) {
		return p, false
	}
	if g.pins.held == nil {
		g.pins.held = make(map[*Pin]struct{})
	}
	if len(g.pins.held) >= maxPins {
		g.pins.loseLocked(g.pins.stalestLocked(), "too many pins")
	}
	g.pins.held[p] = struct{}{}
	return p, true
}

// Advance says that the entries below index are not needed any more, which is
// progress; a lower index than before is none.
func (p *Pin) Advance(index uint64) {
	p.guard.pins.mu.Lock()
	defer p.guard.pins.mu.Unlock()
	if index > p.index {
		p.index, p.progress = index, time.Now()
	}
}

// Touch says that there is progress, such as a part of the snapshot sent.
func (p *Pin) Touch() {
	p.guard.pins.mu.Lock()
	defer p.guard.pins.mu.Unlock()
	p.progress = time.Now()
}

// Allow lets the pin keep so many bytes of the log, if GuardOptions.PinBytes are
// fewer: what is written while a large snapshot is sent grows with its size.
func (p *Pin) Allow(bytes int64) {
	p.guard.pins.mu.Lock()
	defer p.guard.pins.mu.Unlock()
	p.bytes = bytes
}

// Held says whether the pin is neither released nor lost.
func (p *Pin) Held() bool {
	p.guard.pins.mu.Lock()
	defer p.guard.pins.mu.Unlock()
	_, held := p.guard.pins.held[p]
	return held
}

// Release ends the pin. It may be called again, and of a pin that was lost.
func (p *Pin) Release() {
	p.guard.pins.mu.Lock()
	defer p.guard.pins.mu.Unlock()
	delete(p.guard.pins.held, p)
}

func (s *pins) stalestLocked() *Pin {
	var stalest *Pin
	for p := range s.held {
		if stalest == nil || p.progress.Before(stalest.progress) {
			stalest = p
		}
	}
	return stalest
}

func (s *pins) loseLocked(p *Pin, why string) {
	delete(s.held, p)
	p.guard.opts.Logger.Warn("raft log: no longer kept for a follower", "index", p.index, "reason", why)
}

// BytesFrom is the store's [Log.BytesFrom]; 0 if the store does not count.
func (g *Guard) BytesFrom(index uint64) int64 {
	if g.sizer == nil {
		return 0
	}
	return g.sizer.BytesFrom(index)
}

// clamp is the highest index that deleting the prefix from first to high may
// reach; below first if nothing may be deleted.
func (g *Guard) clamp(first, high uint64) uint64 {
	high = g.clampBytes(first, high)
	g.expirePins()
	g.pins.mu.Lock()
	defer g.pins.mu.Unlock()
	for p := range g.pins.held {
		if p.index <= high {
			high = max(p.index, 1) - 1
		}
	}
	// Recorded before the deletion: a Pin that comes in between sees it.
	g.pins.floor = max(g.pins.floor, high+1)
	return high
}

// clampBytes leaves the byte tail: it finds, by bisection, the highest index
// with at least TrailingBytes above it.
func (g *Guard) clampBytes(first, high uint64) uint64 {
	if g.sizer == nil || g.opts.TrailingBytes < 0 {
		return high
	}
	n := sort.Search(int(high-first+1), func(i int) bool {
		return g.sizer.BytesFrom(first+uint64(i)+1) < g.opts.TrailingBytes
	})
	return first + uint64(n) - 1
}

// expirePins loses the pins beyond their limits. It counts bytes, which may
// read the disk, without holding the mutex.
func (g *Guard) expirePins() {
	g.pins.mu.Lock()
	indexes, limits := make(map[*Pin]uint64, len(g.pins.held)), make(map[*Pin]int64, len(g.pins.held))
	for p := range g.pins.held {
		indexes[p], limits[p] = p.index, max(p.bytes, g.opts.PinBytes)
	}
	g.pins.mu.Unlock()
	large := make(map[*Pin]bool)
	for p, index := range indexes {
		large[p] = g.opts.PinBytes > 0 && g.BytesFrom(index) > limits[p]
	}
	g.pins.mu.Lock()
	defer g.pins.mu.Unlock()
	for p, index := range indexes {
		if _, held := g.pins.held[p]; !held {
			continue
		}
		switch idle := time.Since(p.progress); {
		case large[p] && p.index == index:
			g.pins.loseLocked(p, "too many bytes")
		case g.opts.PinTimeout > 0 && idle > g.opts.PinTimeout:
			g.pins.loseLocked(p, "no progress")
		}
	}
}
