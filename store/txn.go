package store

import (
	"errors"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// txnRun is a transaction being applied. Its changes are staged in the overlay, where
// its own later steps see them, and written when all has gone well: a transaction
// that turns out too large has no effect.
type txnRun struct {
	a     *applier
	rev   uint64 // of its changes
	sub   uint64 // of the next one
	keys  uint64 // looked at in ranges, or deleted
	bytes uint64 // of these keys, and of all that it returns
	out   uint64 // bytes that it returns
	// hung has the keys that it hangs on leases which have no hint of them yet.
	hung    map[uint64]*hungKeys
	whole   *kv.Txn      // the outermost
	changed *changedKeys // nil: not asked for yet
}

type hungKeys struct {
	keys  map[string]bool
	bytes uint64
}

var errTxnTooLarge = errors.New("transaction too large")

// txn applies a transaction (etcd's: a compare, one of two branches, one revision).
func (a *applier) txn(op *command.Op) (command.OpResult, error) {
	if op.Txn.Validate() != nil {
		return command.OpResult{Status: command.Invalid}, nil
	}
	if err := a.makeRoom(op.Txn); err != nil {
		return command.OpResult{}, err
	}
	t := txnRun{a: a, rev: uint64(a.st.Revision) + 1, whole: op.Txn}
	staged := a.over.mark()
	res, err := t.run(op.Txn)
	if err != nil {
		a.over.cut(staged)
		switch {
		case errors.Is(err, errTxnTooLarge), errors.Is(err, errEntryTooLarge):
			return command.OpResult{Status: command.TooLarge}, nil
		case errors.Is(err, kv.ErrLeaseNotFound):
			return command.OpResult{Status: command.LeaseNotFound}, nil
		}
		return command.OpResult{}, err
	}
	out := command.OpResult{Status: command.OK, Response: command.AppendTxnResult(nil, &res)}
	if t.sub == 0 {
		return out, nil
	}
	a.st.Revision++
	for i := staged; i < len(a.over.rows); i++ {
		o := &a.over.rows[i]
		if o.row.lease != 0 {
			if err := a.attach(o.key, o.row.lease); err != nil {
				return out, err
			}
		}
		if !o.row.tombstone {
			if err := a.resolveNew(o.key, &o.row); err != nil {
				return out, err
			}
		}
		if err := a.emit(o.key, &o.row); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (t *txnRun) run(txn *kv.Txn) (res kv.TxnResult, err error) {
	res.Succeeded = true
	for i := range txn.If {
		if res.Succeeded, err = t.holds(&txn.If[i]); err != nil {
			return res, err
		}
		if !res.Succeeded {
			break
		}
	}
	branch := txn.Then
	if !res.Succeeded {
		branch = txn.Else
	}
	res.Results = make([]kv.OpResult, len(branch))
	for i := range branch {
		if err := t.step(&branch[i], &res.Results[i]); err != nil {
			return res, err
		}
	}
	return res, nil
}

func (t *txnRun) step(op *kv.Op, res *kv.OpResult) error {
	switch op.Kind {
	case kv.OpSet:
		return t.set(op, res)
	case kv.OpGet:
		return t.get(op, res)
	case kv.OpDelete:
		return t.delete(op, res)
	}
	inner, err := t.run(op.Txn)
	res.Txn = &inner
	return err
}

func (t *txnRun) stage(key []byte, r *row) {
	r.sub = t.sub
	t.sub++
	t.a.over.add(key, t.rev, r)
}

func (t *txnRun) set(op *kv.Op, res *kv.OpResult) error {
	key, _, _ := op.Range.Bounds()
	if op.ReturnPrev {
		if err := t.previous([]byte(key), res); err != nil {
			return err
		}
	}
	if op.Lease != 0 {
		if err := t.hang(key, uint64(op.Lease)); err != nil {
			return err
		}
	}
	t.stage([]byte(key), &row{lease: uint64(op.Lease), value: op.Value})
	return nil
}

// hang checks that a key can hang on a lease, with those that the transaction hangs
// on it besides; what it takes off the lease makes no room for them.
func (t *txnRun) hang(key string, lease uint64) error {
	a := t.a
	l, ok := a.leases.table[kv.LeaseID(lease)]
	if !ok {
		return kv.ErrLeaseNotFound
	}
	if has, err := a.hasHint(l.ID, []byte(key)); has || err != nil {
		return err
	}
	if t.hung == nil {
		t.hung = map[uint64]*hungKeys{}
	}
	hung := t.hung[lease]
	if hung == nil {
		hung = &hungKeys{keys: map[string]bool{}}
		t.hung[lease] = hung
	}
	if !hung.keys[key] {
		hung.keys[key] = true
		hung.bytes += uint64(len(key))
	}
	if l.Hints+uint64(len(hung.keys)) > a.settings.leaseKeys || l.HintBytes+hung.bytes > a.settings.leaseBytes {
		return errTxnTooLarge
	}
	return nil
}

// makeRoom drops the stale hints of leases on which a transaction might hang more keys
// than there is room for. It must come before the transaction, whose staged rows may
// be taken back: a hint that is stale by them only must stay.
func (a *applier) makeRoom(txn *kv.Txn) error {
	var wanted map[uint64][][]byte // keys, by lease
	var walk func(txn *kv.Txn)
	walk = func(txn *kv.Txn) {
		for _, branch := range [][]kv.Op{txn.Then, txn.Else} {
			for i := range branch {
				switch op := &branch[i]; {
				case op.Txn != nil:
					walk(op.Txn)
				case op.Lease != 0:
					if wanted == nil {
						wanted = map[uint64][][]byte{}
					}
					key, _, _ := op.Range.Bounds()
					wanted[uint64(op.Lease)] = append(wanted[uint64(op.Lease)], []byte(key))
				}
			}
		}
	}
	walk(txn)
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		l, ok := a.leases.table[kv.LeaseID(id)]
		if !ok || a.hasRoom(&l, wanted[id]) {
			continue
		}
		more := wanted[id][:0] // those that do not have a hint
		for _, key := range wanted[id] {
			has, err := a.hasHint(l.ID, key)
			if err != nil {
				return err
			}
			if !has {
				more = append(more, key)
			}
		}
		if a.hasRoom(&l, more) {
			continue
		}
		if err := a.dropStale(&l); err != nil {
			return err
		}
	}
	return nil
}

// hasRoom says whether keys can be added to the hints of a lease.
func (a *applier) hasRoom(l *Lease, keys [][]byte) bool {
	bytes := uint64(0)
	for _, key := range keys {
		bytes += uint64(len(key))
	}
	return l.Hints+uint64(len(keys)) <= a.settings.leaseKeys && l.HintBytes+bytes <= a.settings.leaseBytes
}

// previous adds the item of key, if there is one, to what is returned.
func (t *txnRun) previous(key []byte, res *kv.OpResult) error {
	h, err := t.a.head(key, true)
	if err != nil || !h.live() {
		return err
	}
	return t.add(res, key, &h, false)
}

// add adds an item to what is returned.
func (t *txnRun) add(res *kv.OpResult, key []byte, h *head, keysOnly bool) error {
	item, err := t.a.item(key, h, keysOnly)
	if err != nil {
		return err
	}
	if t.out += uint64(len(item.Key) + len(item.Value)); t.out > t.a.settings.responseBytes {
		return errTxnTooLarge
	}
	res.Items = append(res.Items, item)
	return nil
}

// looked counts a key that a range holds.
func (t *txnRun) looked(key []byte) error {
	t.keys++
	t.bytes += uint64(len(key))
	if t.keys > t.a.settings.rangeKeys || t.bytes > t.a.settings.rangeBytes {
		return errTxnTooLarge
	}
	return nil
}

// oneKey returns the key of a range of one.
func oneKey(r kv.Range) (key []byte, one bool) {
	from, to, open := r.Bounds()
	return []byte(from), !open && len(to) == len(from)+1 && to[len(from)] == 0 && to[:len(from)] == from
}

// each calls fn with each live key of the range in order, until it says false.
// The arguments are valid during the call; fn must not stage.
func (t *txnRun) each(r kv.Range, fn func(key []byte, h *head) (bool, error)) error {
	if key, one := oneKey(r); one {
		h, err := t.a.head(key, true)
		if err == nil && h.live() {
			_, err = fn(key, &h)
		}
		return err
	}
	from, to, open := r.Bounds()
	_, err := t.a.liveKeys([]byte(from), []byte(to), open, func(key []byte, h *head) (bool, error) {
		if err := t.looked(key); err != nil {
			return false, err
		}
		return fn(key, h)
	})
	return err
}

func (t *txnRun) get(op *kv.Op, res *kv.OpResult) error {
	if op.Reverse {
		return t.getReverse(op, res)
	}
	return t.each(op.Range, func(key []byte, h *head) (bool, error) {
		switch {
		case op.CountOnly:
			res.Count++
			return true, nil
		case op.Limit > 0 && len(res.Items) == op.Limit:
			res.More = true
			return false, nil
		}
		res.Count++
		return true, t.add(res, key, h, op.KeysOnly)
	})
}

func (t *txnRun) getReverse(op *kv.Op, res *kv.OpResult) error {
	var keys [][]byte
	err := t.each(op.Range, func(key []byte, _ *head) (bool, error) {
		keys = append(keys, slices.Clone(key))
		return true, nil
	})
	if err != nil {
		return err
	}
	res.Count = int64(len(keys))
	if op.CountOnly {
		return nil
	}
	if op.Limit > 0 && len(keys) > op.Limit {
		keys, res.More, res.Count = keys[len(keys)-op.Limit:], true, int64(op.Limit)
	}
	for _, key := range slices.Backward(keys) {
		h, err := t.a.head(key, true)
		if err == nil {
			err = t.add(res, key, &h, op.KeysOnly)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *txnRun) delete(op *kv.Op, res *kv.OpResult) error {
	var keys [][]byte
	err := t.each(op.Range, func(key []byte, h *head) (bool, error) {
		keys = append(keys, slices.Clone(key))
		if !op.ReturnPrev {
			return true, nil
		}
		return true, t.add(res, key, h, false)
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		t.stage(key, &row{tombstone: true})
	}
	res.Count = int64(len(keys))
	return nil
}

// holds evaluates a comparison.
func (t *txnRun) holds(c *kv.Compare) (bool, error) {
	if c.Target == kv.TargetUnchanged {
		return t.unchanged(c.Range, uint64(c.Number))
	}
	if key, one := oneKey(c.Range); one {
		h, err := t.a.head(key, c.Target != kv.TargetModRevision)
		if err != nil {
			return false, err
		}
		return t.keyHolds(c, key, &h)
	}
	any, all := false, true
	err := t.each(c.Range, func(key []byte, h *head) (_ bool, err error) {
		any = true
		all, err = t.keyHolds(c, key, h)
		return all, err
	})
	if err == nil && !any {
		return t.keyHolds(c, nil, &head{})
	}
	return all, err
}

func (t *txnRun) keyHolds(c *kv.Compare, key []byte, h *head) (bool, error) {
	var item kv.Item
	switch {
	case !h.live():
		if c.Target == kv.TargetValue {
			return false, nil
		}
	case c.Target == kv.TargetModRevision:
		item.ModRevision = kv.Revision(h.mod)
	case c.Target == kv.TargetValue:
		item.Value = h.row.value
	case c.Target == kv.TargetLease:
		item.Lease = kv.LeaseID(h.row.lease)
	default:
		create, version, err := t.a.resolveHead(key, h)
		if err != nil {
			return false, err
		}
		item.CreateRevision, item.Version = kv.Revision(create), int64(version)
	}
	return c.Holds(&item), nil
}

// unchanged: nothing in r was put or deleted after revision since. The answer must
// not depend on what a member has removed: only the logical compaction counts, and
// all that came after it is there.
func (t *txnRun) unchanged(r kv.Range, since uint64) (bool, error) {
	a := t.a
	if since < uint64(a.st.Compacted) {
		return false, nil
	}
	if key, one := oneKey(r); one {
		h, err := a.head(key, false)
		return err == nil && h.mod <= since, err
	}
	from, to, open := r.Bounds()
	for _, o := range a.over.inRange([]byte(from), []byte(to), open) {
		if o.rev > since {
			return false, nil
		}
	}
	if t.changed == nil {
		var err error
		if t.changed, err = a.changedSince(t.earliest(t.whole)); err != nil {
			return false, err
		}
	}
	return !t.changed.tooMany && !t.changed.in(r, since), nil
}

// earliest is the least revision with which t compares a range, of those that are not
// compacted: one reading of the index serves all comparisons.
func (t *txnRun) earliest(txn *kv.Txn) uint64 {
	least := uint64(t.a.st.Revision)
	for i := range txn.If {
		c := &txn.If[i]
		if _, one := oneKey(c.Range); !one && c.Target == kv.TargetUnchanged && uint64(c.Number) >= uint64(t.a.st.Compacted) {
			least = min(least, uint64(c.Number))
		}
	}
	for _, branch := range [][]kv.Op{txn.Then, txn.Else} {
		for i := range branch {
			if branch[i].Txn != nil {
				least = min(least, t.earliest(branch[i].Txn))
			}
		}
	}
	return least
}

// changedKeys has the newest revision of each key that committed entries have changed
// since some revision.
type changedKeys struct {
	tooMany bool // more than SettingIndexRows, or maxChangedBytes: nothing is known
	keys    []string
	newest  map[string]uint64
}

// maxChangedBytes bounds the index rows that a transaction reads. Part of the format.
const maxChangedBytes = 8 << 20

// in says whether a key of r has changed after since.
func (c *changedKeys) in(r kv.Range, since uint64) bool {
	from, _, _ := r.Bounds()
	i, _ := slices.BinarySearch(c.keys, from)
	for ; i < len(c.keys) && r.Contains(c.keys[i]); i++ {
		if c.newest[c.keys[i]] > since {
			return true
		}
	}
	return false
}

// openRow is an index row of the open batch.
type openRow struct {
	last  uint64 // revision of its entry
	bytes int
}

// changedSince reads the committed index rows of revisions above since; the changes of
// the open batch are in the overlay. How much is too much must not depend on where
// Pebble batches end, which is a member's own affair: rows of the open batch count,
// too.
func (a *applier) changedSince(since uint64) (*changedKeys, error) {
	c := &changedKeys{newest: make(map[string]uint64)}
	rows, bytes := uint64(0), 0
	for _, x := range a.openIndex {
		if x.last > since {
			rows++
			bytes += x.bytes
		}
	}
	full := func() bool { return rows > a.settings.indexRows || bytes > maxChangedBytes }
	_, upper := spaceBounds(spaceIndex)
	it, err := a.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(since+1, 0), UpperBound: upper})
	if err != nil {
		return nil, asCorrupt(err)
	}
	defer it.Close()
	for ok := it.First(); ok && !full(); ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, asCorrupt(err)
		}
		rows++
		bytes += len(v)
		if _, err = decodeIndexRow(v, func(x IndexedChange) {
			if rev := uint64(x.Revision); rev > since {
				c.newest[string(x.Key)] = max(rev, c.newest[string(x.Key)])
			}
		}); err != nil {
			return nil, err
		}
	}
	c.tooMany = full()
	c.keys = slices.Sorted(maps.Keys(c.newest))
	return c, asCorrupt(it.Error())
}
