package store

import (
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

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

// checkShare: apply looks for stale hints again once the revision has risen by this
// share of their number, so that a change pays for 64 looks at most. A lease of fewer
// keys is looked at after each change.
const checkShare = 64

// dropStale deletes the hints of keys that do not hang on the lease any more, unless it
// has looked for them in vain of late. What has not changed is not looked at again:
// thousands of refused operations would each read ten thousand rows.
func (a *applier) dropStale(l *Lease) error {
	rev := uint64(a.st.Revision)
	if l.Checked > 0 && rev < l.Checked+1+l.Hints/checkShare {
		return nil
	}
	_, stale, err := a.hinted(*l)
	if err != nil {
		return err
	}
	if len(stale) == 0 {
		l.Checked = rev
		return a.setLease(*l)
	}
	if err := a.dropHints(l, stale); err != nil {
		return err
	}
	return a.setLease(*l)
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
