package store

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Reads that apply makes. They see blind writes earlier in the same
// operation, entry and uncommitted Pebble batch (the overlay), then committed
// data.

// overlay is what the open Pebble batch holds, newest row per key. Blind
// writes only append to rows; the map is caught up when somebody asks. An
// indexed Pebble batch would charge every blind write for its skip list.
type overlay struct {
	rows  []overlayRow
	byKey map[string]int // newest row of each key among rows[:seen]
	seen  int
}

type overlayRow struct {
	key  []byte // aliases the entry, or is the applier's own
	rev  uint64
	row  row
	prev int // 1 + the row before it of the same key; 0: none. Valid below seen
}

func (o *overlay) reset() {
	clear(o.rows)
	o.rows, o.seen = o.rows[:0], 0
	clear(o.byKey)
}

func (o *overlay) add(key []byte, rev uint64, r *row) {
	o.rows = append(o.rows, overlayRow{key: key, rev: rev, row: *r})
}

func (o *overlay) catchUp() {
	if o.byKey == nil {
		o.byKey = make(map[string]int)
	}
	for ; o.seen < len(o.rows); o.seen++ {
		r := &o.rows[o.seen]
		if i, ok := o.byKey[string(r.key)]; ok {
			r.prev = i + 1
		}
		o.byKey[string(r.key)] = o.seen
	}
}

// mark is where cut goes back to.
func (o *overlay) mark() int { return len(o.rows) }

// cut takes back the rows added since.
func (o *overlay) cut(mark int) {
	for i := o.seen - 1; i >= mark; i-- {
		if r := &o.rows[i]; r.prev > 0 {
			o.byKey[string(r.key)] = r.prev - 1
		} else {
			delete(o.byKey, string(r.key))
		}
	}
	o.seen = min(o.seen, mark)
	clear(o.rows[mark:])
	o.rows = o.rows[:mark]
}

// before returns the row before r of the same key.
func (o *overlay) before(r *overlayRow) *overlayRow {
	if r.prev == 0 {
		return nil
	}
	return &o.rows[r.prev-1]
}

func (o *overlay) get(key []byte) *overlayRow {
	o.catchUp()
	if i, ok := o.byKey[string(key)]; ok {
		return &o.rows[i]
	}
	return nil
}

// inRange returns the newest rows of the keys in the range, in key order. They are
// valid until the next add.
func (o *overlay) inRange(from, to []byte, open bool) []*overlayRow {
	o.catchUp()
	var out []*overlayRow
	for key, i := range o.byKey {
		if key >= string(from) && (open || key < string(to)) {
			out = append(out, &o.rows[i])
		}
	}
	slices.SortFunc(out, func(a, b *overlayRow) int { return slices.Compare(a.key, b.key) })
	return out
}

// committed returns the iterator over committed data.
func (a *applier) committed() (*pebble.Iterator, error) {
	if a.iter != nil {
		return a.iter, nil
	}
	it, err := a.db.NewIter(&pebble.IterOptions{UseL6Filters: true, UpperBound: dataEnd(),
		LowerBound: []byte{spaceData, bareEnd}})
	if err != nil {
		return nil, fmt.Errorf("state: %w", asCorrupt(err))
	}
	a.iter = it
	return it, nil
}

// head returns the newest row of key; needRow asks for the row itself, else
// mod and tomb may be all that is known.
func (a *applier) head(key []byte, needRow bool) (head, error) {
	if o := a.over.get(key); o != nil {
		return head{mod: o.rev, tomb: o.row.tombstone, row: o.row, known: true}, nil
	}
	if !needRow {
		if c, ok := a.s.recent.Load().get(key); ok {
			return head{mod: c.mod, tomb: c.tomb}, nil
		}
	}
	it, err := a.committed()
	if err != nil {
		return head{}, err
	}
	a.s.looks.Add(1)
	a.key = appendBare(a.key[:0], key)
	if !it.SeekPrefixGE(a.key) {
		return head{}, asCorrupt(it.Error())
	}
	h, _, err := headAt(it)
	return h, err
}

// headAt decodes the row under the iterator. The row's value and the key
// alias the iterator's memory.
func headAt(it *pebble.Iterator) (h head, key []byte, err error) {
	key, rev, err := splitData(it.Key())
	if err != nil {
		return h, nil, err
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return h, nil, asCorrupt(err)
	}
	r, err := decodeRow(v)
	return head{mod: rev, tomb: r.tombstone, row: r, known: true}, key, err
}

// resolveNew fills in create and version of a new row of key at the current
// revision, if the recently written keys know them, and keeps them knowing.
func (a *applier) resolveNew(key []byte, r *row) error {
	cache := a.s.recent.Load()
	rev := uint64(a.st.Revision)
	if !cache.next(key, rev, r) {
		return nil
	}
	c, _ := cache.get(key)
	if c.base <= uint64(a.s.state.Load().Revision) {
		// Bound the walk of readers to a hot key: resolve its base, which is
		// committed, once in so many writes.
		create, version, found, err := a.resolveCommitted(key, c.base)
		if err != nil {
			return err
		}
		if found {
			r.resolved, r.create, r.version = true, create, version+c.since+1
			cache.put(key, recentSlot{mod: rev, resolved: true, create: r.create, version: r.version, lease: r.lease}, r.value)
			return nil
		}
		// Compaction removed the base and settled a younger row.
		c.base, c.since = rev, ^uint64(0)
	}
	cache.put(key, recentSlot{mod: rev, base: c.base, since: c.since + 1, lease: r.lease}, r.value)
	return nil
}

// learn tells the recently written keys what a condition's read found, so that
// the row about to be written needs no resolution.
func (a *applier) learn(key []byte, h *head) {
	switch {
	case !h.live():
		a.s.recent.Load().put(key, recentSlot{mod: max(h.mod, 1), tomb: true}, nil)
	case h.known && h.row.resolved:
		a.s.recent.Load().put(key, recentSlot{mod: h.mod, resolved: true, create: h.row.create, version: h.row.version, lease: h.row.lease}, h.row.value)
	}
}

// resolveCommitted resolves the committed row (key, rev).
func (a *applier) resolveCommitted(key []byte, rev uint64) (create, version uint64, found bool, err error) {
	it, err := a.committed()
	if err != nil {
		return 0, 0, false, err
	}
	a.key = appendVersion(appendBare(a.key[:0], key), rev)
	if !it.SeekPrefixGE(a.key) {
		return 0, 0, false, asCorrupt(it.Error())
	}
	h, _, err := headAt(it)
	if err != nil || h.mod != rev || h.tomb {
		// Compaction may have removed it; then nobody walks that far either.
		return 0, 0, false, err
	}
	create, version, _, err = resolve(it, h.mod, &h.row)
	return create, version, err == nil, err
}

// appendPrev adds the version h of key to the previous items of res.
func (a *applier) appendPrev(res *command.OpResult, key []byte, h *head) error {
	item, err := a.item(key, h, false)
	res.Prev = append(res.Prev, command.PrevItem{Key: []byte(item.Key), Value: item.Value, Create: uint64(item.CreateRevision),
		Mod: h.mod, Version: uint64(item.Version), Lease: h.row.lease})
	return err
}

// item returns the version h of key, whose row is known, as an item of its own.
func (a *applier) item(key []byte, h *head, keysOnly bool) (kv.Item, error) {
	item := kv.Item{Key: string(key), ModRevision: kv.Revision(h.mod), Lease: kv.LeaseID(h.row.lease)}
	if !keysOnly {
		item.Value = clone(h.row.value) // before the iterator moves
	}
	create, version, err := a.resolveHead(key, h)
	item.CreateRevision, item.Version = kv.Revision(create), int64(version)
	return item, err
}

// resolveHead returns create and version of the newest row of key. The row's value
// may be gone after it.
func (a *applier) resolveHead(key []byte, h *head) (create, version uint64, err error) {
	if h.row.resolved {
		return h.row.create, h.row.version, nil
	}
	if c, ok := a.s.recent.Load().get(key); ok && c.resolved && c.mod == h.mod {
		return c.create, c.version, nil
	}
	// Uncommitted rows of the key, newest first, then committed ones.
	for o := a.over.get(key); o != nil; o = a.over.before(o) {
		switch {
		case o.row.tombstone:
			return create, version, nil
		case o.row.resolved:
			return o.row.create, version + o.row.version, nil
		}
		create, version = o.rev, version+1
	}
	it, err := a.committed()
	if err != nil {
		return 0, 0, err
	}
	a.key = appendBare(a.key[:0], key)
	if !it.SeekPrefixGE(a.key) {
		return create, version, asCorrupt(it.Error())
	}
	older, _, err := headAt(it)
	if err != nil || older.tomb {
		return create, version, err
	}
	c, v, _, err := resolve(it, older.mod, &older.row)
	return c, v + version, err
}

// liveKeys calls fn with each live key of the range in order, until it says
// false; the arguments are valid during the call. The error is errEntryTooLarge once the
// entry has looked at too many. It merges committed rows with the overlay, which wins.
func (a *applier) liveKeys(from, to []byte, open bool, fn func(key []byte, h *head) (bool, error)) (bool, error) {
	live := func(key []byte, h *head) (bool, error) {
		if !h.live() {
			return true, nil
		}
		if a.ranged++; a.ranged > a.settings.entryKeys {
			return false, errEntryTooLarge
		}
		return fn(key, h)
	}
	if !open && string(from) >= string(to) {
		return true, nil
	}
	upper := dataEnd()
	if !open {
		upper = appendBare(nil, to)
	}
	it, err := a.db.NewIter(&pebble.IterOptions{LowerBound: appendBare(nil, from), UpperBound: upper})
	if err != nil {
		return false, asCorrupt(err)
	}
	defer it.Close()
	over := a.over.inRange(from, to, open)
	for valid := it.First(); ; {
		// A read that fails looks like the end of the committed rows: nobody may see
		// what the overlay has behind it, nor be told that nothing is.
		if !valid {
			if err := asCorrupt(it.Error()); err != nil || len(over) == 0 {
				return err == nil, err
			}
		}
		a.s.looks.Add(1)
		var h head
		var key []byte
		if valid {
			if h, key, err = headAt(it); err != nil {
				return false, err
			}
		}
		overlaid := len(over) > 0 && (!valid || string(over[0].key) <= string(key))
		committed := valid && (!overlaid || string(over[0].key) == string(key))
		if overlaid {
			if committed {
				valid = it.NextPrefix() // before fn: its key is the overlay's
			}
			key = over[0].key
			h = head{mod: over[0].rev, tomb: over[0].row.tombstone, row: over[0].row, known: true}
			over = over[1:]
		}
		if ok, err := live(key, &h); !ok || err != nil {
			return false, err
		}
		if committed && !overlaid {
			valid = it.NextPrefix()
		}
	}
}
