package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
)

// Snapshot reads a store at one revision. Implementations of KV give one to
// NewReadTx and NewTx; the items belong to the caller.
type Snapshot interface {
	Revision() Revision
	Get(ctx context.Context, key string) (Item, error)
	// Scan's options are Limit, Reverse and KeysOnly; their other fields are zero.
	Scan(ctx context.Context, r Range, o ScanOptions) iter.Seq2[Item, error]
}

// ReadTx is what a View reads from: the whole store at one revision. It is for the
// goroutine that View runs fn on, until fn returns.
type ReadTx struct {
	ctx  context.Context
	from Snapshot
	over bool
}

// NewReadTx is for implementations of KV.
func NewReadTx(ctx context.Context, from Snapshot) *ReadTx { return &ReadTx{ctx: ctx, from: from} }

// End makes every later use of the transaction fail. For implementations of KV.
func (t *ReadTx) End() { t.over = true }

// Revision is the revision that the transaction reads at.
func (t *ReadTx) Revision() Revision { return t.from.Revision() }

var errEmptyKey = fmt.Errorf("%w: the key is empty", ErrInvalidArgument)

var errTxOver = fmt.Errorf("%w: a transaction is used after its function has returned", ErrInvalidArgument)

func (t *ReadTx) check() error {
	err := context.Cause(t.ctx)
	if t.over {
		err = errTxOver
	}
	return txError(err)
}

// txError is the error of a step of a transaction: nothing is done yet.
func txError(err error) error {
	if _, ok := err.(*Error); err == nil || ok {
		return err
	}
	return &Error{Op: "Tx", Outcome: OutcomeNotDone, Err: err}
}

// Get returns the item of key, or ErrNotFound. The item is the caller's.
func (t *ReadTx) Get(key string) (Item, error) {
	if err := t.check(); err != nil {
		return Item{}, err
	}
	if key == "" {
		return Item{}, txError(errEmptyKey)
	}
	return t.from.Get(t.ctx, key)
}

// Scan yields the items of r in key order. An error is the last pair. The options
// Limit, Reverse and KeysOnly may be given; the revision is the transaction's. The
// items are the caller's.
func (t *ReadTx) Scan(r Range, opts ...ScanOption) iter.Seq2[Item, error] {
	o, err := txScanOptions(r, opts)
	return func(yield func(Item, error) bool) {
		if err == nil {
			err = t.check()
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		for item, err := range t.from.Scan(t.ctx, r, o) {
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

func txScanOptions(r Range, opts []ScanOption) (o ScanOptions, err error) {
	for _, opt := range opts {
		opt.ApplyScan(&o)
	}
	switch {
	case o.ReadOptions != (ReadOptions{}):
		err = fmt.Errorf("%w: a transaction reads at its own revision", ErrInvalidArgument)
	case o.Limit < 0:
		err = fmt.Errorf("%w: limit %d", ErrInvalidArgument, o.Limit)
	default:
		err = r.Validate()
	}
	return o, txError(err)
}

// Tx is what an Update reads and writes. It reads one revision, and what it has
// written itself; what it writes is committed when fn has returned, if nothing that
// it has read has changed. It is for the goroutine that Update runs fn on, until fn
// returns.
type Tx struct {
	ReadTx
	keys   map[string]bool // read
	ranges []Range         // read
	writes map[string]txWrite
	bytes  int // of writes
	limits TxLimits
}

// TxLimits bounds a Tx. For implementations of KV.
type TxLimits struct {
	KeyBytes, ValueBytes int // of one that is put; 0: none
	Bytes                int // of all keys and values written
	Size                 int // of the Txn that commits it; see Txn.Size
}

type txWrite struct {
	value  []byte
	lease  LeaseID
	delete bool
}

// NewTx is for implementations of KV.
func NewTx(ctx context.Context, from Snapshot, limits TxLimits) *Tx {
	return &Tx{ReadTx: ReadTx{ctx: ctx, from: from}, keys: map[string]bool{}, writes: map[string]txWrite{}, limits: limits}
}

// Get returns the item of key as the transaction sees it, or ErrNotFound. What the
// transaction has written itself has no revisions yet: they are 0. The item is the
// caller's.
func (t *Tx) Get(key string) (Item, error) {
	if err := t.check(); err != nil {
		return Item{}, err
	}
	if w, ok := t.writes[key]; ok {
		if w.delete {
			return Item{}, txError(ErrNotFound)
		}
		return w.item(key), nil
	}
	item, err := t.ReadTx.Get(key)
	if err == nil || errors.Is(err, ErrNotFound) {
		t.keys[key] = true
	}
	return item, cmp.Or(err, t.room())
}

func (w *txWrite) item(key string) Item {
	return Item{Key: key, Value: append([]byte{}, w.value...), Lease: w.lease}
}

// Set stores value under key when the transaction commits. It is copied. Lease: see
// WithLease; conditions are the function's own business.
func (t *Tx) Set(key string, value []byte, opts ...SetOption) error {
	var o SetOptions
	for _, opt := range opts {
		opt.ApplySet(&o)
	}
	if o.Conditional {
		return txError(fmt.Errorf("%w: a Set in a transaction takes no condition: read the key", ErrInvalidArgument))
	}
	if n := t.limits.KeyBytes; n > 0 && len(key) > n {
		return txError(fmt.Errorf("%w: key of %d bytes, the limit is %d", ErrTooLarge, len(key), n))
	}
	if n := t.limits.ValueBytes; n > 0 && len(value) > n {
		return txError(fmt.Errorf("%w: value of %d bytes, the limit is %d", ErrTooLarge, len(value), n))
	}
	return t.write(key, txWrite{value: append([]byte{}, value...), lease: o.Lease})
}

// Delete removes key when the transaction commits; if it is absent then, that is no
// error.
func (t *Tx) Delete(key string) error { return t.write(key, txWrite{delete: true}) }

func (t *Tx) write(key string, w txWrite) error {
	if err := t.check(); err != nil {
		return err
	}
	if key == "" {
		return txError(errEmptyKey)
	}
	if old, ok := t.writes[key]; ok {
		t.bytes -= len(key) + len(old.value)
	}
	t.writes[key] = w
	t.bytes += len(key) + len(w.value)
	if n := t.limits.Bytes; n > 0 && t.bytes > n {
		return txError(fmt.Errorf("%w: a transaction writes more than %d bytes", ErrTooLarge, n))
	}
	return t.room()
}

// room bounds the transaction while it grows: one that can not be committed should
// not first be filled.
func (t *Tx) room() error {
	if n := len(t.keys) + len(t.ranges) + len(t.writes); t.limits.Size > 0 && n > t.limits.Size {
		return txError(fmt.Errorf("%w: a transaction has read and written more than %d keys and ranges", ErrTooLarge, t.limits.Size))
	}
	return nil
}

// DeleteRange removes the keys of r that the transaction sees, and returns how many.
func (t *Tx) DeleteRange(r Range) (int, error) {
	n := 0
	for item, err := range t.Scan(r, KeysOnly()) {
		if err != nil {
			return n, err
		}
		if err := t.Delete(item.Key); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Scan yields the items of r in key order as the transaction sees them when the loop
// begins. What it has come past is read: a key that comes or goes there until the
// transaction commits makes it run again. See ReadTx.Scan.
func (t *Tx) Scan(r Range, opts ...ScanOption) iter.Seq2[Item, error] {
	o, err := txScanOptions(r, opts)
	return func(yield func(Item, error) bool) {
		if err == nil {
			err = t.check()
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		t.scan(r, o, yield)
	}
}

func (t *Tx) scan(r Range, o ScanOptions, yield func(Item, error) bool) {
	limit := o.Limit
	mine, gone := t.written(r, &o)
	if limit > 0 {
		o.Limit = min(o.Limit, math.MaxInt-len(gone)) + len(gone) // own deletions take items away
	}
	n, last := 0, ""
	whole := false // all of r was read
	defer func() { t.addRange(r, last, whole, o.Reverse) }()
	give := func(item Item) bool {
		n++
		last = item.Key
		return yield(item, nil) && (limit == 0 || n < limit)
	}
	before := func(a, b string) bool { return a != b && (a < b) != o.Reverse }
	for item, err := range t.from.Scan(t.ctx, r, o) {
		if err == nil {
			err = cmp.Or(t.check(), t.room())
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		for len(mine) > 0 && before(mine[0].Key, item.Key) {
			if !give(mine[0]) {
				return
			}
			mine = mine[1:]
		}
		if len(mine) > 0 && mine[0].Key == item.Key {
			item, mine = mine[0], mine[1:]
		} else if gone[item.Key] {
			last = item.Key
			continue
		}
		if !give(item) {
			return
		}
	}
	for _, item := range mine {
		if !give(item) {
			return
		}
	}
	whole = true
}

// written returns what the transaction has put into r, in the scan's order, and the
// keys of r that it has deleted.
func (t *Tx) written(r Range, o *ScanOptions) (out []Item, gone map[string]bool) {
	gone = map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(t.writes)) {
		if w := t.writes[key]; !r.Contains(key) {
			continue
		} else if w.delete {
			gone[key] = true
		} else {
			item := w.item(key)
			if o.KeysOnly {
				item.Value = nil
			}
			out = append(out, item)
		}
	}
	if o.Reverse {
		slices.Reverse(out)
	}
	return out, gone
}

// addRange notes what a scan that came to last has read.
func (t *Tx) addRange(r Range, last string, whole, reverse bool) {
	switch {
	case whole:
	case last == "":
		return // not even the first
	case reverse:
		if r.open {
			r = From(last)
		} else {
			r = Between(last, r.to)
		}
	default:
		r = Between(r.from, last+"\x00")
	}
	if !slices.Contains(t.ranges, r) {
		t.ranges = append(t.ranges, r)
	}
}

// Changes says whether there is anything to commit. For implementations of KV.
func (t *Tx) Changes() bool { return len(t.writes) > 0 }

// Txn returns what commits the transaction: its reads as conditions, in order, and
// its writes. For implementations of KV.
func (t *Tx) Txn() Txn {
	var out Txn
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		out.If = append(out.If, Unchanged(Key(key), t.Revision()))
	}
	for _, r := range t.ranges {
		out.If = append(out.If, Unchanged(r, t.Revision()))
	}
	for _, key := range slices.Sorted(maps.Keys(t.writes)) {
		if w := t.writes[key]; w.delete {
			out.Then = append(out.Then, DeleteOp(Key(key)))
		} else {
			op := SetOp(key, w.value)
			op.Lease = w.lease
			out.Then = append(out.Then, op)
		}
	}
	return out
}
