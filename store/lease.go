package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Lease is what the log says of a lease, the same on all members. How much of
// it is left, the leader's clock says.
type Lease struct {
	ID kv.LeaseID
	// Generation is the index of the entry that granted it: what was decided about
	// an earlier lease of that id must not hit this one.
	Generation uint64
	TTL        time.Duration
	// Remaining is what was left when the log last said so: at most TTL, and at
	// least what a leader that takes over must give it.
	Remaining time.Duration
	// Hints counts the keys that were written with the lease. Some of them may hang
	// on it no more.
	Hints     uint64
	HintBytes uint64 // of these keys
}

const leaseVersion = 1

func (l *Lease) append(dst []byte) []byte {
	dst = append(dst, leaseVersion)
	for _, v := range [...]uint64{l.Generation, uint64(l.TTL.Milliseconds()), uint64(l.Remaining.Milliseconds()), l.Hints, l.HintBytes} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func decodeLease(b []byte) (l Lease, err error) {
	if len(b) == 0 {
		return l, fmt.Errorf("%w: empty lease row", kv.ErrCorrupt)
	}
	if b[0] != leaseVersion {
		return l, fmt.Errorf("%w: lease row version %d", kv.ErrFormatTooNew, b[0])
	}
	b = b[1:]
	var v [5]uint64
	for i := range v {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return l, fmt.Errorf("%w: lease row ends early", kv.ErrCorrupt)
		}
		v[i], b = u, b[n:]
	}
	if len(b) > 0 || v[1] > command.MaxLeaseTTL || v[2] > v[1] {
		return l, fmt.Errorf("%w: lease row: ttl %d, remaining %d, %d bytes left over", kv.ErrCorrupt, v[1], v[2], len(b))
	}
	return Lease{Generation: v[0], TTL: millis(v[1]), Remaining: millis(v[2]), Hints: v[3], HintBytes: v[4]}, nil
}

func millis(ms uint64) time.Duration { return time.Duration(ms) * time.Millisecond }

func loadLeases(db *pebble.DB) (map[kv.LeaseID]Lease, error) {
	out := make(map[kv.LeaseID]Lease)
	lower, upper := spaceBounds(spaceLease)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, asCorrupt(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		l, err := decodeLease(it.Value())
		if k := it.Key(); err == nil && len(k) != leaseKeyLen {
			err = fmt.Errorf("%w: lease key %x", kv.ErrCorrupt, k)
		}
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		l.ID = kv.LeaseID(binary.BigEndian.Uint64(it.Key()[1:]))
		out[l.ID] = l
	}
	return out, errors.Join(asCorrupt(it.Error()), it.Close())
}

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

// mayAttach says whether a key can hang on a lease: OK, LeaseNotFound or
// TooLarge. It must be asked before any effect of the operation. What it
// deletes, if the lease is full, are stale hints.
func (a *applier) mayAttach(key []byte, lease uint64) (command.OpStatus, error) {
	l, ok := a.leases.table[kv.LeaseID(lease)]
	if !ok {
		return command.LeaseNotFound, nil
	}
	full := func() bool {
		return l.Hints >= a.settings.leaseKeys || l.HintBytes+uint64(len(key)) > a.settings.leaseBytes
	}
	if !full() {
		return command.OK, nil
	}
	if has, err := a.hasHint(l.ID, key); has || err != nil {
		return command.OK, err
	}
	if err := a.dropStale(&l); err != nil {
		return 0, err
	}
	if full() {
		return command.TooLarge, nil
	}
	return command.OK, nil
}

// dropStale deletes the hints of keys that do not hang on the lease any more.
func (a *applier) dropStale(l *Lease) error {
	_, stale, err := a.hinted(*l)
	if err != nil || len(stale) == 0 {
		return err
	}
	return errors.Join(a.dropHints(l, stale), a.setLease(*l))
}

// attach notes that a row of key is about to be written with a lease, which
// mayAttach allowed.
func (a *applier) attach(key []byte, lease uint64) error {
	l := a.leases.table[kv.LeaseID(lease)]
	if has, err := a.hasHint(l.ID, key); has || err != nil {
		return err
	}
	a.noteHint(l.ID, string(key), true)
	if err := a.batch.Set(hintKey(l.ID, key), nil, nil); err != nil {
		return err
	}
	l.Hints++
	l.HintBytes += uint64(len(key))
	return a.setLease(l)
}

func (a *applier) noteHint(id kv.LeaseID, key string, there bool) {
	m := a.leases.hints[id]
	if m == nil {
		m = make(map[string]bool)
		a.leases.hints[id] = m
	}
	m[key] = there
}

func (a *applier) hasHint(id kv.LeaseID, key []byte) (bool, error) {
	if there, ok := a.leases.hints[id][string(key)]; ok {
		return there, nil
	}
	b, err := getCopy(a.db, hintKey(id, key))
	return b != nil, err
}

// hints returns the keys that the lease has hints of, in order: those of the open
// batch over those that are committed.
func (a *applier) hints(id kv.LeaseID) ([]string, error) {
	open := a.leases.hints[id]
	var out []string
	err := eachHint(a.db, id, func(key string) {
		if _, ok := open[key]; !ok {
			out = append(out, key)
		}
	})
	for key, there := range open {
		if there {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out, err
}

func eachHint(r pebble.Reader, id kv.LeaseID, fn func(key string)) error {
	lower := hintKey(id, nil)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: hintKey(id+1, nil)})
	if err != nil {
		return asCorrupt(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		fn(string(it.Key()[len(lower)-1 : len(it.Key())-1]))
	}
	return errors.Join(asCorrupt(it.Error()), it.Close())
}

// hinted divides the keys that a lease has hints of into those that hang on it
// and the others, both in order.
func (a *applier) hinted(l Lease) (attached, stale []string, err error) {
	if l.Hints == 0 {
		return nil, nil, nil
	}
	keys, err := a.hints(l.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, key := range keys {
		h, err := a.head([]byte(key), true)
		if err != nil {
			return nil, nil, err
		}
		if h.live() && h.row.lease == uint64(l.ID) {
			attached = append(attached, key)
		} else {
			stale = append(stale, key)
		}
	}
	return attached, stale, nil
}

// dropHints deletes hints of a lease, whose row is the caller's to write.
func (a *applier) dropHints(l *Lease, keys []string) error {
	for _, key := range keys {
		a.noteHint(l.ID, key, false)
		if err := a.batch.Delete(hintKey(l.ID, []byte(key)), nil); err != nil {
			return err
		}
		l.Hints--
		l.HintBytes -= uint64(len(key))
	}
	return nil
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
