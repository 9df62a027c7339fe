// Package kvmodel is what the store means, for tests: every version of every key,
// without batches, caches, rows or files. It is as simple as it can be, so that one
// can see that it is right.
package kvmodel

import (
	"cmp"
	"slices"

	"github.com/replkv/replkv/kv"
)

// Model is a store. Its zero value is not one: New makes it.
type Model struct {
	Rev, Compacted kv.Revision
	Keys           map[string][]kv.Item     // oldest first; Version 0: a deletion
	Order          map[kv.Revision][]string // the keys that a revision changed, in the order of its changes

	Leases    map[kv.LeaseID]bool // those that there are
	LeaseKeys int                 // how many keys may hang on a lease; 0: any number
}

// New returns an empty store.
func New() Model {
	return Model{Rev: 1, Keys: map[string][]kv.Item{}, Order: map[kv.Revision][]string{}, Leases: map[kv.LeaseID]bool{}}
}

// At returns the item of key as of rev; it shares its value.
func (m *Model) At(key string, rev kv.Revision) (kv.Item, bool) {
	h := m.Keys[key]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].ModRevision <= rev {
			return h[i], h[i].Version > 0
		}
	}
	return kv.Item{}, false
}

// Scan returns the items of r as of rev, in key order or reverse.
func (m *Model) Scan(r kv.Range, rev kv.Revision, reverse bool) []kv.Item {
	var out []kv.Item
	for k := range m.Keys {
		if it, ok := m.At(k, rev); ok && r.Contains(k) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b kv.Item) int {
		if reverse {
			a, b = b, a
		}
		return cmp.Compare(a.Key, b.Key)
	})
	return out
}

// Put stores a version of key at revision Rev.
func (m *Model) Put(key string, value []byte, lease kv.LeaseID) {
	it := kv.Item{Key: key, Value: append([]byte{}, value...), CreateRevision: m.Rev, ModRevision: m.Rev, Version: 1, Lease: lease}
	if prev, ok := m.At(key, m.Rev); ok {
		it.CreateRevision, it.Version = prev.CreateRevision, prev.Version+1
	}
	m.add(it)
}

func (m *Model) add(it kv.Item) {
	m.Keys[it.Key] = append(m.Keys[it.Key], it)
	m.Order[m.Rev] = append(m.Order[m.Rev], it.Key)
}

// Remove deletes key, which is there, at revision Rev.
func (m *Model) Remove(key string) {
	m.add(kv.Item{Key: key, ModRevision: m.Rev})
}

// On returns the items that hang on a lease.
func (m *Model) On(lease kv.LeaseID) []kv.Item {
	return slices.DeleteFunc(m.Scan(kv.All(), m.Rev, false), func(it kv.Item) bool { return it.Lease != lease })
}

// Revoke ends a lease, which there is, and removes what hangs on it.
func (m *Model) Revoke(lease kv.LeaseID) (removed int) {
	items := m.On(lease)
	delete(m.Leases, lease)
	if len(items) > 0 {
		m.Rev++
	}
	for _, it := range items {
		m.Remove(it.Key)
	}
	return len(items)
}

// Txn does a valid transaction. ErrLeaseNotFound, ErrTooLarge for a lease that is
// full: nothing is done. Other limits are not part of the model.
func (m *Model) Txn(t *kv.Txn) (kv.TxnResult, error) {
	m.Rev++
	r := run{m: m, hung: map[kv.LeaseID]map[string]bool{}}
	res, err := r.txn(t)
	if err != nil {
		for _, key := range r.changed {
			m.Keys[key] = slices.DeleteFunc(m.Keys[key], func(it kv.Item) bool { return it.ModRevision == m.Rev })
		}
		r.changed = nil
		delete(m.Order, m.Rev)
	}
	if len(r.changed) == 0 {
		m.Rev--
	}
	res.Revision = m.Rev
	return res, err
}

// run is a transaction being done.
type run struct {
	m       *Model
	changed []string
	// hung has the keys of each lease that it puts keys on: those that hung on it when
	// it was first named, and those put since.
	hung map[kv.LeaseID]map[string]bool
}

func (r *run) txn(t *kv.Txn) (res kv.TxnResult, err error) {
	res.Succeeded = !slices.ContainsFunc(t.If, func(c kv.Compare) bool { return !r.m.holds(&c) })
	ops := t.Then
	if !res.Succeeded {
		ops = t.Else
	}
	res.Results = make([]kv.OpResult, len(ops))
	for i := range ops {
		if err := r.step(&ops[i], &res.Results[i]); err != nil {
			return res, err
		}
	}
	return res, nil
}

func (r *run) step(op *kv.Op, res *kv.OpResult) error {
	m := r.m
	switch op.Kind {
	case kv.OpTxn:
		inner, err := r.txn(op.Txn)
		res.Txn = &inner
		return err
	case kv.OpGet:
		items := m.Scan(op.Range, m.Rev, op.Reverse)
		if res.Count = int64(len(items)); op.CountOnly {
			return nil
		}
		if op.Limit > 0 && len(items) > op.Limit {
			items, res.More, res.Count = items[:op.Limit], true, int64(op.Limit)
		}
		for _, it := range items {
			if op.KeysOnly {
				it.Value = nil
			}
			res.Items = append(res.Items, it)
		}
		return nil
	}
	items := m.Scan(op.Range, m.Rev, false)
	if op.ReturnPrev {
		res.Items = items
	}
	if op.Kind == kv.OpSet {
		return r.set(op)
	}
	res.Count = int64(len(items))
	for _, it := range items {
		m.Remove(it.Key)
		r.changed = append(r.changed, it.Key)
	}
	return nil
}

func (r *run) set(op *kv.Op) error {
	key, _, _ := op.Range.Bounds()
	if op.Lease != 0 {
		if !r.m.Leases[op.Lease] {
			return kv.ErrLeaseNotFound
		}
		hung := r.hung[op.Lease]
		if hung == nil {
			hung = map[string]bool{}
			r.hung[op.Lease] = hung
			before := *r.m
			before.Rev-- // as the transaction found it
			for _, it := range before.On(op.Lease) {
				hung[it.Key] = true
			}
		}
		hung[key] = true
		if r.m.LeaseKeys > 0 && len(hung) > r.m.LeaseKeys {
			return kv.ErrTooLarge
		}
	}
	r.m.Put(key, op.Value, op.Lease)
	r.changed = append(r.changed, key)
	return nil
}

func (m *Model) holds(c *kv.Compare) bool {
	if c.Target == kv.TargetUnchanged {
		for key, versions := range m.Keys {
			for _, v := range versions {
				if c.Range.Contains(key) && int64(v.ModRevision) > c.Number {
					return false
				}
			}
		}
		return c.Number >= int64(m.Compacted)
	}
	items := m.Scan(c.Range, m.Rev, false)
	if len(items) == 0 {
		return c.Target != kv.TargetValue && c.Holds(&kv.Item{})
	}
	return !slices.ContainsFunc(items, func(it kv.Item) bool { return !c.Holds(&it) })
}
