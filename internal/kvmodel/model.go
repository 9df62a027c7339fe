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
	Keys           map[string][]kv.Item // oldest first; Version 0: a deletion
}

// New returns an empty store.
func New() Model { return Model{Rev: 1, Keys: map[string][]kv.Item{}} }

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
	m.Keys[key] = append(m.Keys[key], it)
}

// Remove deletes key, which is there, at revision Rev.
func (m *Model) Remove(key string) {
	m.Keys[key] = append(m.Keys[key], kv.Item{Key: key, ModRevision: m.Rev})
}

// Txn does a valid transaction. Limits are not part of the model.
func (m *Model) Txn(t *kv.Txn) kv.TxnResult {
	m.Rev++
	changed := false
	res := m.run(t, &changed)
	if !changed {
		m.Rev--
	}
	res.Revision = m.Rev
	return res
}

func (m *Model) run(t *kv.Txn, changed *bool) (res kv.TxnResult) {
	res.Succeeded = !slices.ContainsFunc(t.If, func(c kv.Compare) bool { return !m.holds(&c) })
	ops := t.Then
	if !res.Succeeded {
		ops = t.Else
	}
	res.Results = make([]kv.OpResult, len(ops))
	for i := range ops {
		m.step(&ops[i], &res.Results[i], changed)
	}
	return res
}

func (m *Model) step(op *kv.Op, res *kv.OpResult, changed *bool) {
	switch op.Kind {
	case kv.OpTxn:
		inner := m.run(op.Txn, changed)
		res.Txn = &inner
	case kv.OpGet:
		items := m.Scan(op.Range, m.Rev, op.Reverse)
		if res.Count = int64(len(items)); op.CountOnly {
			return
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
	case kv.OpSet, kv.OpDelete:
		items := m.Scan(op.Range, m.Rev, false)
		if op.ReturnPrev {
			res.Items = items
		}
		if op.Kind == kv.OpSet {
			key, _, _ := op.Range.Bounds()
			m.Put(key, op.Value, op.Lease)
			*changed = true
			return
		}
		res.Count = int64(len(items))
		for _, it := range items {
			m.Remove(it.Key)
			*changed = true
		}
	}
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
