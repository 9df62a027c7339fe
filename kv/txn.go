package kv

import (
	"bytes"
	"cmp"
)

// Txn is a transaction in etcd's form: if all of If hold, Then is done, else
// Else, all of it at one revision, or nothing. It is one log entry's work, and
// needs no round trip between reading and writing. Update is for what does not
// fit the form.
//
// No key may be put twice, nor put and deleted, on one way through the
// transaction: the result would have two changes of a key at one revision.
type Txn struct {
	If   []Compare // none: they hold
	Then []Op
	Else []Op
}

// Compare is a condition on one key, or on all keys of a range that are there.
// An absent key compares as Version, CreateRevision, ModRevision and Lease 0, and
// its value equals nothing: a comparison of values fails. A range without keys
// compares like an absent key.
type Compare struct {
	Range  Range
	Target Target
	Is     Relation
	Value  []byte // with TargetValue
	Number int64  // with the other targets
}

// Target is what a Compare looks at. The numbers are for ever.
type Target uint8

const (
	TargetVersion        Target = 1
	TargetCreateRevision Target = 2
	TargetModRevision    Target = 3
	TargetValue          Target = 4
	TargetLease          Target = 5
	// TargetUnchanged: no key of the range was put or deleted after revision
	// Number, keys that are gone or new included. It fails, too, if that can not
	// be told any more: the revision is compacted, or too much has changed since.
	// Is must be Equal.
	TargetUnchanged Target = 6
)

// Relation of what is there to what the Compare names. The numbers are for ever.
type Relation uint8

const (
	Equal    Relation = 1
	NotEqual Relation = 2
	Less     Relation = 3 // what is there is less
	Greater  Relation = 4
)

// Holds compares an item, the zero Item if there is none. Not for TargetUnchanged,
// and comparisons of the value of what is absent have failed before. For
// implementations of KV.
func (c *Compare) Holds(it *Item) bool {
	var n int
	switch c.Target {
	case TargetVersion:
		n = cmp.Compare(it.Version, c.Number)
	case TargetCreateRevision:
		n = cmp.Compare(int64(it.CreateRevision), c.Number)
	case TargetModRevision:
		n = cmp.Compare(int64(it.ModRevision), c.Number)
	case TargetLease:
		n = cmp.Compare(int64(it.Lease), c.Number)
	case TargetValue:
		n = bytes.Compare(it.Value, c.Value)
	}
	switch c.Is {
	case Equal:
		return n == 0
	case NotEqual:
		return n != 0
	case Less:
		return n < 0
	}
	return n > 0
}

// Exists holds if key is there.
func Exists(key string) Compare {
	return Compare{Range: Key(key), Target: TargetVersion, Is: Greater}
}

// Absent holds if key is not there.
func Absent(key string) Compare {
	return Compare{Range: Key(key), Target: TargetVersion, Is: Equal}
}

// ValueIs holds if key is there and its value is value.
func ValueIs(key string, value []byte) Compare {
	return Compare{Range: Key(key), Target: TargetValue, Is: Equal, Value: value}
}

// RevisionIs holds if key's ModRevision is rev; 0: if it is absent.
func RevisionIs(key string, rev Revision) Compare {
	return Compare{Range: Key(key), Target: TargetModRevision, Is: Equal, Number: int64(rev)}
}

// Unchanged holds if nothing in r was put or deleted after rev. See
// TargetUnchanged.
func Unchanged(r Range, rev Revision) Compare {
	return Compare{Range: r, Target: TargetUnchanged, Is: Equal, Number: int64(rev)}
}

// Op is one step of a transaction: made by SetOp, GetOp, DeleteOp or TxnOp, whose
// result's further fields may be set.
type Op struct {
	Kind  OpKind
	Range Range  // OpSet: of one key
	Value []byte // OpSet

	Lease      LeaseID // OpSet: hang the key on it; 0: none
	ReturnPrev bool    // OpSet, OpDelete: what was there before

	Limit     int  // OpGet: items; 0: all
	Reverse   bool // OpGet
	KeysOnly  bool // OpGet: without values
	CountOnly bool // OpGet: only how many there are

	Txn *Txn // OpTxn
}

// OpKind says what an Op does. The numbers are for ever.
type OpKind uint8

const (
	OpSet    OpKind = 1
	OpGet    OpKind = 2
	OpDelete OpKind = 3
	OpTxn    OpKind = 4
)

// SetOp puts value under key.
func SetOp(key string, value []byte) Op { return Op{Kind: OpSet, Range: Key(key), Value: value} }

// GetOp reads the items of r, as the steps before it left them.
func GetOp(r Range) Op { return Op{Kind: OpGet, Range: r} }

// DeleteOp deletes the keys of r.
func DeleteOp(r Range) Op { return Op{Kind: OpDelete, Range: r} }

// TxnOp runs another transaction within. It sees what the steps before it did.
func TxnOp(t Txn) Op { return Op{Kind: OpTxn, Txn: &t} }

// TxnResult is the answer to a transaction.
type TxnResult struct {
	Succeeded bool     // If held, and Then was done
	Revision  Revision // the store's after the transaction
	Results   []OpResult
}

// OpResult is the answer to one step, in the order of the branch taken.
type OpResult struct {
	// Items: OpGet: what was found, in key order. OpSet and OpDelete with
	// ReturnPrev: what was there before. They are the caller's.
	Items []Item
	More  bool       // OpGet: there are more than Limit
	Count int64      // OpGet: of Items, or with CountOnly of all; OpDelete: of deleted keys
	Txn   *TxnResult // OpTxn; its Revision is not set
}
