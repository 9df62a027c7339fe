package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// leaseTable is what readers see of the leases: those of the last committed
// batch.
type leaseTable struct {
	count atomic.Int64

	mu    sync.Mutex // protects the field below
	table map[kv.LeaseID]Lease
}

func (t *leaseTable) adopt(table map[kv.LeaseID]Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table = maps.Clone(table)
	t.count.Store(int64(len(table)))
}

// WithLeases calls fn with all leases. What Options.OnLease tells comes before or
// after, not meanwhile. fn must not call the store, nor keep or change the map.
func (s *Store) WithLeases(fn func(map[kv.LeaseID]Lease)) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	fn(s.leases.table)
}

// Leases returns all leases in the order of their ids.
func (s *Store) Leases() (out []Lease) {
	s.WithLeases(func(table map[kv.LeaseID]Lease) { out = slices.Collect(maps.Values(table)) })
	slices.SortFunc(out, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// LeaseCount returns the number of leases.
func (s *Store) LeaseCount() int { return int(s.leases.count.Load()) }

// LeaseKeys returns the keys that hang on a lease, in order, and whether there is
// such a lease.
func (s *Store) LeaseKeys(id kv.LeaseID) (keys []string, there bool, err error) {
	e, err := s.acquire()
	if err != nil {
		return nil, false, err
	}
	defer e.release()
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	row, err := getCopy(snap, leaseKey(id))
	if row == nil || err != nil {
		return nil, false, err
	}
	var hinted []string
	if err := eachHint(snap, id, func(key string) { hinted = append(hinted, key) }); err != nil {
		return nil, false, err
	}
	it, err := snap.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, false, asCorrupt(err)
	}
	defer func() { err = errors.Join(err, asCorrupt(it.Close())) }()
	for _, key := range hinted {
		if !it.SeekPrefixGE(appendBare(nil, key)) {
			if err := asCorrupt(it.Error()); err != nil {
				return nil, false, err
			}
			continue
		}
		h, _, err := headAt(it)
		if err != nil {
			return nil, false, err
		}
		if h.live() && h.row.lease == uint64(id) {
			keys = append(keys, key)
		}
	}
	return keys, true, nil
}

// HashLeases returns a hash of all leases and hints, and the applied index that
// it is of: equal on members at the same index.
func (s *Store) HashLeases() (index uint64, sum [32]byte, err error) {
	e, err := s.acquire()
	if err != nil {
		return 0, sum, err
	}
	defer e.release()
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	st, err := loadState(snap)
	if err != nil {
		return 0, sum, err
	}
	h := sha256.New()
	lower, _ := spaceBounds(spaceLease)
	_, upper := spaceBounds(spaceHint)
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, sum, asCorrupt(err)
	}
	var b []byte
	for ok := it.First(); ok; ok = it.Next() {
		b = append(binary.AppendUvarint(b[:0], uint64(len(it.Key()))), it.Key()...)
		b = append(binary.AppendUvarint(b, uint64(len(it.Value()))), it.Value()...)
		h.Write(b)
	}
	h.Sum(sum[:0])
	return st.Index, sum, errors.Join(asCorrupt(it.Error()), it.Close())
}
