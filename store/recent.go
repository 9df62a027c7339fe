package store

import (
	"hash/maphash"
	"sync"
)

// recent knows the newest row of recently written keys, so that
//   - a blind write of such a key can store its CreateRevision and Version
//     without reading, and a hot key's Get needs no walk;
//   - a condition on such a key needs no read.
//
// It is a fixed table: a key has one slot, and evicts what is there. It holds
// facts about logical rows only, so that neither compaction nor settling
// invalidates it. Restore makes a new one.
//
// Invariant: if a slot holds key k, its mod is that of k's newest row in apply
// order, uncommitted rows included. Apply, the only writer of rows, updates
// the slot with each write; readers only add what they found out about exactly
// that row.
type recent struct {
	seed   maphash.Seed
	shards [recentShards]struct {
		mu sync.Mutex
		_  [56]byte // one cache line each
	}
	slots []recentSlot
}

const (
	recentShards   = 256
	recentSlots    = 1 << 16
	recentKeyBytes = 256 // longer keys are not remembered
)

type recentSlot struct {
	key      []byte
	mod      uint64 // 0: empty
	base     uint64 // unresolved: the row from which since counts
	since    uint64 // unresolved: rows written after base, mod's included
	create   uint64 // resolved
	version  uint64 // resolved
	resolved bool
	tomb     bool
}

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), slots: make([]recentSlot, recentSlots)}
}

func (c *recent) lock(key []byte) (*recentSlot, *sync.Mutex) {
	h := maphash.Bytes(c.seed, key)
	mu := &c.shards[h%recentShards].mu
	mu.Lock()
	return &c.slots[h%recentSlots], mu
}

// get returns the slot of key, if there is one.
func (c *recent) get(key []byte) (recentSlot, bool) {
	if len(key) > recentKeyBytes {
		return recentSlot{}, false
	}
	s, mu := c.lock(key)
	defer mu.Unlock()
	if s.mod == 0 || string(s.key) != string(key) {
		return recentSlot{}, false
	}
	out := *s
	out.key = nil // the buffer is the slot's
	return out, true
}

// put records the newest row of key; apply only.
func (c *recent) put(key []byte, n recentSlot) {
	if len(key) > recentKeyBytes {
		return
	}
	s, mu := c.lock(key)
	defer mu.Unlock()
	n.key = append(s.key[:0], key...)
	*s = n
}

// resolved records what a reader found out about the row (key, mod), if that
// still is the newest.
func (c *recent) resolve(key []byte, mod, create, version uint64) {
	if len(key) > recentKeyBytes {
		return
	}
	s, mu := c.lock(key)
	defer mu.Unlock()
	if s.mod == mod && !s.resolved && !s.tomb && string(s.key) == string(key) {
		s.resolved, s.create, s.version = true, create, version
	}
}
