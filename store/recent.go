package store

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/replkv/replkv/kv"
)

// recent knows the newest row of recently written or read keys, so that
//   - a blind write of such a key can store its CreateRevision and Version
//     without reading, and a hot key's Get needs no walk;
//   - a condition on such a key needs no read;
//   - a key that is read often is read without asking the engine, which looks
//     into each of its levels: 1 us instead of 10 to 40.
//
// It is a fixed table of sets of recentWays slots; a key has one set, and there
// evicts what is not used. Values are kept of keys that are read, within a bound
// on their bytes. It holds facts about logical rows only, so that neither
// compaction nor settling invalidates it. Restore makes a new one.
//
// Invariant: if a slot holds key k, its mod is that of k's newest row in apply
// order, uncommitted rows included. Apply, the only writer of rows, updates
// the slot with each write; readers only add what they found out about exactly
// that row, or, with a ticket, about a row that still is the newest.
type recent struct {
	seed   maphash.Seed
	shards [recentShards]struct {
		mu sync.Mutex
		_  [56]byte // one cache line each
	}
	sets   []recentSet
	newest atomic.Uint64 // revision of the newest row put, committed or not
	limit  int64         // of bytes
	bytes  atomic.Int64  // of the buffers of slots with a value
}

const (
	recentShards     = 1024
	recentSets       = 1 << 12
	recentWays       = 32      // of keys that fill 3/4 of the table a fifth find no slot with 2, a twentieth with 8, one of 200 with 32
	recentKeyBytes   = 256     // longer keys are not remembered
	recentValueBytes = 4 << 10 // of longer values only the rest is
)

type recentSet struct {
	changes uint32 // rises with each row put and each slot evicted
	used    uint32 // a bit for each slot: read since it was last considered for eviction
	hand    uint8  // the slot that is considered next
	tags    recentTags
	slots   [recentWays]recentSlot
}

// recentTags are 16 bits of the hash of each slot's key, four in a word, so that
// other keys are told without a look at them.
type recentTags [recentWays / 4]uint64

func (t *recentTags) set(at uint8, tag uint16) {
	shift := 16 * (at % 4)
	t[at/4] = t[at/4]&^(0xffff<<shift) | uint64(tag)<<shift
}

// among returns a word whose bits 16n+15 are set for the tags n of word w that are
// tag, and perhaps for some after one that is.
func (t *recentTags) among(w int, tag uint16) uint64 {
	const ones, highs = 0x0001000100010001, 0x8000800080008000
	x := t[w] ^ uint64(tag)*ones
	return (x - ones) &^ x & highs
}

type recentSlot struct {
	data     []byte // the key, then the value
	mod      uint64 // 0: empty
	base     uint64 // unresolved: the row from which since counts
	since    uint64 // unresolved: rows written after base, mod's included
	create   uint64 // resolved
	version  uint64 // resolved
	lease    uint64 // with hasValue
	keyLen   uint16
	resolved bool
	tomb     bool
	hasValue bool
}

func (s *recentSlot) holds(key []byte) bool {
	return s.mod != 0 && string(s.data[:s.keyLen]) == string(key)
}

func newRecent(sets int, limit int64) *recent {
	return &recent{seed: maphash.MakeSeed(), sets: make([]recentSet, sets), limit: limit}
}

// place is where a key may be: the set that is locked, and the key's tag.
type place struct {
	*recentSet
	mu  *sync.Mutex
	tag uint16
}

func (c *recent) lock(key []byte) place {
	h := maphash.Bytes(c.seed, key)
	set := h % uint64(len(c.sets))
	mu := &c.shards[set%recentShards].mu
	mu.Lock()
	return place{&c.sets[set], mu, uint16(h >> 48)}
}

func (p place) unlock() { p.mu.Unlock() }

// find returns the slot of key, and which it is; nil if there is none.
func (p place) find(key []byte) (s *recentSlot, at int) {
	for w := range p.tags {
		for m := p.tags.among(w, p.tag); m != 0; m &= m - 1 {
			at = 4*w + bits.TrailingZeros64(m)/16
			if s = &p.slots[at]; s.holds(key) {
				return s, at
			}
		}
	}
	return nil, 0
}

// read is find for who reads the key.
func (p place) read(key []byte) *recentSlot {
	s, at := p.find(key)
	if s != nil {
		p.used |= 1 << at
	}
	return s
}

// victim returns the slot for a key that has none: the next that was not read of
// late.
func (p place) victim() *recentSlot {
	for {
		at, bit := p.hand, uint32(1)<<p.hand
		p.hand = (p.hand + 1) % recentWays
		read := p.used&bit != 0
		p.used &^= bit
		if !read {
			p.tags.set(at, p.tag)
			return &p.slots[at]
		}
	}
}

// get returns the slot of key, if there is one, without its data.
func (c *recent) get(key []byte) (recentSlot, bool) {
	if len(key) > recentKeyBytes {
		return recentSlot{}, false
	}
	t := c.lock(key)
	defer t.unlock()
	s := t.read(key)
	if s == nil {
		return recentSlot{}, false
	}
	out := *s
	out.data = nil // the buffer is the slot's
	return out, true
}

// put records the newest row of key; apply only. The value is kept if that of
// the key's row before is: somebody reads it.
func (c *recent) put(key []byte, n recentSlot, value []byte) {
	if len(key) > recentKeyBytes {
		return
	}
	c.newest.Store(max(c.newest.Load(), n.mod)) // before the slot, see item
	t := c.lock(key)
	defer t.unlock()
	t.changes++
	s, _ := t.find(key)
	if s == nil {
		s = t.victim()
	} else {
		n.hasValue = s.hasValue
	}
	n.hasValue = n.hasValue && !n.tomb
	c.fill(t, s, key, n, value)
}

// next is put for the row that a blind write makes at rev. It returns what that
// row can say of itself, if the key's row before is known; slow if the walk from
// it has become long, and then does nothing.
func (c *recent) next(key []byte, rev uint64, r *row) (slow bool) {
	n := recentSlot{mod: rev, base: rev, lease: r.lease}
	if len(key) > recentKeyBytes {
		return false
	}
	c.newest.Store(max(c.newest.Load(), rev)) // before the slot, see item
	t := c.lock(key)
	defer t.unlock()
	s, _ := t.find(key)
	switch {
	case s == nil:
		s = t.victim() // an unknown past: this row may be the first or the millionth
	case s.tomb:
		n.resolved, n.create, n.version = true, rev, 1
	case s.resolved:
		n.resolved, n.create, n.version = true, s.create, s.version+1
	case s.since >= resolveWalk:
		return true
	default:
		n.base, n.since = s.base, s.since+1
	}
	if s.holds(key) {
		n.hasValue = s.hasValue
	}
	r.resolved, r.create, r.version = n.resolved, n.create, n.version
	t.changes++
	c.fill(t, s, key, n, r.value)
	return false
}

// fill writes a slot; the value counts with n.hasValue.
func (c *recent) fill(t place, s *recentSlot, key []byte, n recentSlot, value []byte) {
	if s.hasValue {
		c.bytes.Add(-int64(cap(s.data)))
	}
	n.hasValue = n.hasValue && len(value) <= recentValueBytes && c.room(t, s, int64(len(key)+len(value)))
	if s.hasValue && !n.hasValue {
		s.data = nil // a large buffer for a key alone
	}
	n.data, n.keyLen = append(s.data[:0], key...), uint16(len(key))
	if n.hasValue {
		n.data = append(n.data, value...)
		c.bytes.Add(int64(cap(n.data)))
	}
	*s = n
}

// room says whether size more bytes may be kept, for which another slot of the
// set may lose its value.
func (c *recent) room(t place, s *recentSlot, size int64) bool {
	for i := range t.slots {
		if c.bytes.Load()+size <= c.limit {
			return true
		}
		if o := &t.slots[i]; o != s && o.hasValue {
			c.bytes.Add(-int64(cap(o.data)))
			o.data, o.hasValue = append([]byte(nil), o.data[:o.keyLen]...), false
		}
	}
	return c.bytes.Load()+size <= c.limit
}

// ticket is what a reader needs to add a key after it has asked the engine.
type ticket struct {
	changes uint32
	newest  uint64 // put when the key was looked for
}

// item returns the newest item of key, and found, or that it is absent, if that
// is known and committed, as far as committed says, which is called after the
// look. Else the reader asks the engine, and may add what it finds with t.
func (c *recent) item(key string, committed func() uint64) (item kv.Item, found, known bool, t ticket) {
	if len(key) > recentKeyBytes {
		return item, false, false, t
	}
	var buf [recentKeyBytes]byte
	k := append(buf[:0], key...)
	set := c.lock(k)
	defer set.unlock()
	t.changes = set.changes
	// After changes: a row put before that, and evicted since, is at most newest.
	t.newest = c.newest.Load()
	s := set.read(k)
	if s == nil || s.mod > committed() {
		return item, false, false, t
	}
	if s.tomb {
		return item, false, true, t
	}
	if !s.hasValue || !s.resolved {
		return item, false, false, t
	}
	return kv.Item{Key: key, Value: clone(s.data[s.keyLen:]), CreateRevision: kv.Revision(s.create), ModRevision: kv.Revision(s.mod),
		Version: int64(s.version), Lease: kv.LeaseID(s.lease)}, true, true, t
}

// add records an item that a reader found in the engine. Committed is what was
// committed before it asked: if all rows put until then were, and nothing of the
// set has changed since, the item's row still is the newest.
func (c *recent) add(item *kv.Item, t ticket, committed uint64) {
	if len(item.Key) > recentKeyBytes {
		return
	}
	key := []byte(item.Key)
	set := c.lock(key)
	defer set.unlock()
	s := set.read(key)
	switch {
	case s != nil && s.mod != uint64(item.ModRevision):
		return
	case s == nil && (t.newest > committed || t.changes != set.changes):
		return
	case s == nil:
		s = set.victim()
		set.changes++
	}
	c.fill(set, s, key, recentSlot{mod: uint64(item.ModRevision), resolved: true, create: uint64(item.CreateRevision),
		version: uint64(item.Version), lease: uint64(item.Lease), hasValue: true}, item.Value)
}

// resolve records what a reader found out about the row (key, mod), if that
// still is the newest.
func (c *recent) resolve(key []byte, mod, create, version uint64) {
	if len(key) > recentKeyBytes {
		return
	}
	t := c.lock(key)
	defer t.unlock()
	if s, _ := t.find(key); s != nil && s.mod == mod && !s.resolved && !s.tomb {
		s.resolved, s.create, s.version = true, create, version
	}
}
