package raftlog

import "github.com/hashicorp/raft"

// FirstIndex is the store's; see raft.LogStore.
func (g *Guard) FirstIndex() (index uint64, err error) {
	err = g.read("FirstIndex", func() error {
		index, err = g.store.FirstIndex()
		return err
	})
	return index, err
}

// LastIndex is the store's; see raft.LogStore.
func (g *Guard) LastIndex() (index uint64, err error) {
	err = g.read("LastIndex", func() error {
		index, err = g.store.LastIndex()
		return err
	})
	return index, err
}

// GetLog is the store's; see raft.LogStore.
func (g *Guard) GetLog(index uint64, entry *raft.Log) error {
	return g.read("GetLog", func() error { return g.store.GetLog(index, entry) })
}

// StoreLog is the store's; see raft.LogStore.
func (g *Guard) StoreLog(entry *raft.Log) error {
	err := g.write("StoreLog", func() error { return g.store.StoreLog(entry) })
	if err == nil && g.keeper != nil {
		g.keeper.stored(entry)
	}
	return err
}

// StoreLogs is the store's; see raft.LogStore.
func (g *Guard) StoreLogs(entries []*raft.Log) error {
	err := g.write("StoreLogs", func() error { return g.store.StoreLogs(entries) })
	if err == nil && g.keeper != nil && len(entries) > 0 {
		g.keeper.stored(entries[len(entries)-1])
	}
	return err
}

// DeleteRange is the store's, but of a prefix it may delete less: see
// [GuardOptions] and [Guard.Pin]. Before the end goes, the floor is lowered.
func (g *Guard) DeleteRange(low, high uint64) error {
	first, err := g.FirstIndex()
	if err != nil {
		return err
	}
	last, err := g.LastIndex()
	if err != nil {
		return err
	}
	// What reaches the end is raft's way to remove a conflict or to empty the
	// log behind a restored snapshot: not ours to shorten.
	if low <= first && first <= high && high < last {
		if err := g.read("DeleteRange", func() error { high = g.clamp(first, high); return nil }); err != nil {
			return err
		}
		if high < first {
			return nil
		}
	}
	if last > 0 && low <= last && high >= last {
		if err := g.keepCut(first, low); err != nil {
			return err
		}
	}
	return g.write("DeleteRange", func() error { return g.store.DeleteRange(low, high) })
}

// IsMonotonic is the store's; false if it does not say.
func (g *Guard) IsMonotonic() bool {
	m, ok := g.store.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// Set is the store's; see raft.StableStore. A vote is in the floor, too, when
// it returns.
func (g *Guard) Set(key, value []byte) error {
	if err := g.write("Set", func() error { return g.store.Set(key, value) }); err != nil {
		return err
	}
	return g.keepVote(key, value)
}

// Get is the store's; see raft.StableStore.
func (g *Guard) Get(key []byte) (value []byte, err error) {
	err = g.read("Get", func() error {
		value, err = g.store.Get(key)
		return err
	})
	return value, err
}

// SetUint64 is the store's; see raft.StableStore. A term is in the floor, too,
// when it returns.
func (g *Guard) SetUint64(key []byte, value uint64) error {
	if err := g.write("SetUint64", func() error { return g.store.SetUint64(key, value) }); err != nil {
		return err
	}
	return g.keepTerm(key, value)
}

// GetUint64 is the store's; see raft.StableStore.
func (g *Guard) GetUint64(key []byte) (value uint64, err error) {
	err = g.read("GetUint64", func() error {
		value, err = g.store.GetUint64(key)
		return err
	})
	return value, err
}
