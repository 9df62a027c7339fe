package store

import (
	"errors"
	"maps"
	"slices"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// leases is what apply knows of leases.
//
// The truth of which keys hang on a lease is the lease in each key's newest live
// row. A hint only says that a row of the key was once written with it: a blind
// Set that takes the key away leaves the hint behind. Stale hints go when the
// lease does, or when it is full of them.
type leases struct {
	table map[kv.LeaseID]Lease
	// Of the open batch: which leases changed, and hints that were written (true)
	// or deleted (false).
	changed map[kv.LeaseID]bool
	hints   map[kv.LeaseID]map[string]bool
}

func (t *leases) adopt(table map[kv.LeaseID]Lease) {
	t.table = table
	t.changed, t.hints = make(map[kv.LeaseID]bool), make(map[kv.LeaseID]map[string]bool)
}

// setLease writes a lease's row.
func (a *applier) setLease(l Lease) error {
	a.leases.table[l.ID] = l
	a.leases.changed[l.ID] = true
	key, row := leaseKey(l.ID), l.append(nil)
	a.scratch = append(append(a.scratch, key...), row...) // an effect
	return a.batch.Set(key, row, nil)
}

func (a *applier) grant(op *command.Op) (command.OpStatus, error) {
	id := kv.LeaseID(op.Lease)
	switch {
	case op.Lease == 0 || op.Lease > command.MaxLeaseID || op.TTL < command.MinLeaseTTL || op.TTL > command.MaxLeaseTTL:
		return command.Invalid, nil
	case a.hasLease(id):
		return command.Exists, nil
	case uint64(len(a.leases.table)) >= a.settings.leases:
		return command.TooLarge, nil
	}
	return command.OK, a.setLease(Lease{ID: id, Generation: a.at, TTL: millis(op.TTL), Remaining: millis(op.TTL)})
}

func (a *applier) hasLease(id kv.LeaseID) bool {
	_, ok := a.leases.table[id]
	return ok
}

// leaseOf returns the lease that a leader's decision is about. It must be of the
// leader whose term the entry is of: a decision may have waited, and then another
// leader's clock has the say.
func (a *applier) leaseOf(op *command.Op) (Lease, command.OpStatus) {
	l, ok := a.leases.table[kv.LeaseID(op.Lease)]
	switch {
	case op.Term != 0 && op.Term != a.st.CommandTerm: // that of this entry
		return l, command.Stale
	case !ok:
		return l, command.LeaseNotFound
	case op.Term != 0 && op.Generation != l.Generation:
		return l, command.Stale
	}
	return l, command.OK
}

func (a *applier) renew(op *command.Op) (command.OpStatus, error) {
	l, status := a.leaseOf(op)
	if status != command.OK {
		return status, nil
	}
	if op.Term == 0 || millis(op.TTL) > l.TTL || op.TTL > command.MaxLeaseTTL {
		return command.Invalid, nil
	}
	l.Remaining = millis(op.TTL)
	return command.OK, a.setLease(l)
}

// revoke ends a lease, and deletes at one revision the keys that hang on it, in
// their order.
func (a *applier) revoke(op *command.Op) (res command.OpResult, err error) {
	l, status := a.leaseOf(op)
	if res.Status = status; status != command.OK {
		return res, nil
	}
	attached, stale, err := a.hinted(l)
	if err != nil {
		return res, err
	}
	if err := errors.Join(a.dropHints(&l, attached), a.dropHints(&l, stale)); err != nil {
		return res, err
	}
	delete(a.leases.table, l.ID)
	a.leases.changed[l.ID] = true
	key := leaseKey(l.ID)
	a.scratch = append(append(a.scratch, key...), 0) // an effect; a row begins with its version
	if err := a.batch.Delete(key, nil); err != nil || len(attached) == 0 {
		return res, err
	}
	a.st.Revision++
	res.Deleted = uint64(len(attached))
	for i, key := range attached {
		if err := a.write([]byte(key), uint64(i), &row{tombstone: true}); err != nil {
			return res, err
		}
	}
	return res, nil
}

// publishLeases tells readers of the open batch's changes, before they see its
// index.
func (a *applier) publishLeases() {
	if len(a.leases.changed) == 0 {
		return
	}
	t := &a.s.leases
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(a.leases.changed)) {
		l, there := a.leases.table[id]
		if there {
			t.table[id] = l
		} else {
			delete(t.table, id)
		}
		a.s.opts.OnLease(id, l, there)
	}
	t.count.Store(int64(len(t.table)))
	clear(a.leases.changed)
}
