package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// Get returns the item of key at revision rev; 0 means the newest. The item's
// value is the caller's. Absent: kv.ErrNotFound.
func (s *Store) Get(key string, rev kv.Revision) (kv.Item, error) {
	e, err := s.acquire()
	if err != nil {
		return kv.Item{}, err
	}
	defer e.release()
	if rev == 0 {
		cache := e.recent
		committed := func() uint64 { return uint64(s.state.Load().Revision) }
		item, found, known, t := cache.item(key, committed)
		switch {
		case found:
			return item, nil
		case known:
			return item, kv.ErrNotFound
		}
		before := committed()
		if item, err = s.getNewest(e.db, key); err == nil {
			cache.add(&item, t, before)
		}
		return item, err
	}
	// The snapshot first, then the compacted revision *from it*: a removal
	// in between would leave holes.
	snap := e.db.NewSnapshot()
	defer snap.Close()
	if err := checkRevision(snap, rev); err != nil {
		return kv.Item{}, err
	}
	items, _, err := s.scan(snap, kv.Key(key), Page{Revision: rev, Limit: 1})
	if err != nil {
		return kv.Item{}, err
	}
	if len(items) == 0 {
		return kv.Item{}, kv.ErrNotFound
	}
	return items[0], nil
}

func (s *Store) getNewest(from pebble.Reader, key string) (item kv.Item, err error) {
	it, err := from.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return item, asCorrupt(err)
	}
	defer func() { err = errors.Join(err, asCorrupt(it.Close())) }()
	var buf [128]byte
	if !it.SeekPrefixGE(appendBare(buf[:0], key)) {
		if err := asCorrupt(it.Error()); err != nil {
			return item, err
		}
		return item, kv.ErrNotFound
	}
	h, _, err := headAt(it)
	if err != nil {
		return item, err
	}
	if h.tomb {
		return item, kv.ErrNotFound
	}
	item = kv.Item{Key: key, Value: clone(h.row.value), ModRevision: kv.Revision(h.mod), Lease: kv.LeaseID(h.row.lease)}
	return item, s.fill(it, &item, &h)
}

// fill sets CreateRevision and Version of the item whose row h is under it. It
// may move the iterator to older rows of the same key.
func (s *Store) fill(it *pebble.Iterator, item *kv.Item, h *head) error {
	if h.row.resolved {
		item.CreateRevision, item.Version = kv.Revision(h.row.create), int64(h.row.version)
		return nil
	}
	cache := s.recent.Load()
	key := []byte(item.Key)
	if c, ok := cache.get(key); ok && c.resolved && c.mod == h.mod {
		item.CreateRevision, item.Version = kv.Revision(c.create), int64(c.version)
		return nil
	}
	create, version, walked, err := resolve(it, h.mod, &h.row)
	if err != nil {
		return err
	}
	item.CreateRevision, item.Version = kv.Revision(create), int64(version)
	cache.resolve(key, h.mod, create, version)
	if walked > resolveWalk {
		s.janitor.settle(item.Key)
	}
	return nil
}

// clone copies b; an empty value is empty, not nil.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// checkRevision reads the state from r and refuses revisions that it cannot
// answer for.
func checkRevision(r pebble.Reader, rev kv.Revision) error {
	st, err := loadState(r)
	if err != nil {
		return err
	}
	switch {
	case rev < 1:
		return fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, rev)
	case rev < st.Compacted:
		return &kv.CompactedError{Revision: rev, Compacted: st.Compacted}
	case rev > st.Revision:
		return fmt.Errorf("%w: revision %d, the newest is %d", kv.ErrFutureRevision, rev, st.Revision)
	}
	return nil
}

// Page says which part of a range to read.
type Page struct {
	Revision kv.Revision // 0: the newest
	Limit    int         // items; 0: no limit
	MaxBytes int         // of keys and values, at least one item; 0: no limit
	Reverse  bool
	KeysOnly bool
}

// Scan returns one page of the items of r in key order (or reverse), the
// revision it was read at, and whether more may follow. Items are the
// caller's.
func (s *Store) Scan(r kv.Range, p Page) (items []kv.Item, rev kv.Revision, more bool, err error) {
	e, err := s.acquire()
	if err != nil {
		return nil, 0, false, err
	}
	defer e.release()
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	if p.Revision == 0 {
		st, err := loadState(snap)
		if err != nil {
			return nil, 0, false, err
		}
		p.Revision = st.Revision
	} else if err := checkRevision(snap, p.Revision); err != nil {
		return nil, 0, false, err
	}
	items, more, err = s.scan(snap, r, p)
	return items, p.Revision, more, err
}

func (s *Store) scan(snap *pebble.Snapshot, r kv.Range, p Page) (items []kv.Item, more bool, err error) {
	from, to, open := r.Bounds()
	if !open && from >= to {
		return nil, false, nil
	}
	upper := dataEnd()
	if !open {
		upper = appendBare(nil, to)
	}
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendBare(nil, from), UpperBound: upper})
	if err != nil {
		return nil, false, asCorrupt(err)
	}
	defer func() { err = errors.Join(err, asCorrupt(it.Close())) }()
	c := cursor{it: it, rev: uint64(p.Revision), reverse: p.Reverse}
	bytes := 0
	for ok := c.first(); ok; ok = c.next() {
		h, key, found, err := c.head()
		if err != nil {
			return nil, false, err
		}
		if !found || h.tomb {
			continue
		}
		if p.Limit > 0 && len(items) == p.Limit || p.MaxBytes > 0 && bytes >= p.MaxBytes {
			return items, true, nil
		}
		item := kv.Item{Key: string(key), ModRevision: kv.Revision(h.mod), Lease: kv.LeaseID(h.row.lease)}
		if !p.KeysOnly {
			item.Value = clone(h.row.value)
		}
		if err := s.fill(it, &item, &h); err != nil {
			return nil, false, err
		}
		bytes += len(item.Key) + len(item.Value)
		items = append(items, item)
	}
	return items, false, asCorrupt(it.Error())
}

// cursor goes from key to key, forward or backward, and stands on the newest
// row at or below rev of each.
type cursor struct {
	it      *pebble.Iterator
	rev     uint64
	reverse bool
	bare    []byte // of the current key
}

func (c *cursor) first() bool {
	if c.reverse {
		return c.settleOn(c.it.Last())
	}
	return c.settleOn(c.it.First())
}

func (c *cursor) next() bool {
	if c.reverse {
		return c.settleOn(c.it.SeekLT(c.bare))
	}
	// The iterator stands on this key (its newest, or an older row after a
	// walk or a seek), or already on the next.
	if c.it.Valid() && string(c.prefix()) == string(c.bare) {
		return c.settleOn(c.it.NextPrefix())
	}
	return c.settleOn(c.it.Valid())
}

func (c *cursor) prefix() []byte { return c.it.Key()[:split(c.it.Key())] }

func (c *cursor) settleOn(ok bool) bool {
	if ok {
		c.bare = append(c.bare[:0], c.prefix()...)
	}
	return ok
}

// head moves to the newest row of the current key at or below rev; not found
// if the key began later. The key and the row alias the iterator's memory.
func (c *cursor) head() (h head, key []byte, found bool, err error) {
	if c.reverse {
		// Last and SeekLT stand on the key's oldest row.
		if !c.it.SeekGE(appendVersion(slices.Clone(c.bare), c.rev)) || string(c.prefix()) != string(c.bare) {
			return h, nil, false, asCorrupt(c.it.Error())
		}
		h, key, err = headAt(c.it)
		return h, key, err == nil, err
	}
	h, key, err = headAt(c.it)
	if err != nil || h.mod <= c.rev {
		return h, key, err == nil, err
	}
	if !c.it.SeekGE(appendVersion(slices.Clone(c.bare), c.rev)) || string(c.prefix()) != string(c.bare) {
		return h, nil, false, asCorrupt(c.it.Error())
	}
	h, key, err = headAt(c.it)
	return h, key, err == nil, err
}
