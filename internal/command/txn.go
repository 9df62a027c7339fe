package command

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// The body of a Txn operation, and the response to it.
//
//	txn      | n { compare } | n { step } of Then | n { step } of Else |
//	compare  | target | relation | range | value (bytes) or number |
//	range    | form | from (bytes) | to (bytes), with formBetween |
//	step     | kind | 1: range, lease, flags, value (bytes); 2: range, limit, flags; 3: range, flags; 4: txn |
//	response | succeeded | n { flags | count | n { item } | response, with flagTxn } |

const (
	formKey     = 1 // one key
	formBetween = 2
	formOpen    = 3 // no upper bound
)

const (
	stepReturnPrev = 1 << iota
	stepReverse
	stepKeysOnly
	stepCountOnly
)

func appendRange(dst []byte, r kv.Range) []byte {
	from, to, open := r.Bounds()
	switch {
	case open:
		return appendString(append(dst, formOpen), from)
	case r == kv.Key(from):
		return appendString(append(dst, formKey), from)
	}
	return appendString(appendString(append(dst, formBetween), from), to)
}

func (d *decoder) keyRange() kv.Range {
	form := d.byte()
	from := string(d.bytes())
	switch form {
	case formKey:
		return kv.Key(from)
	case formBetween:
		return kv.Between(from, string(d.bytes()))
	case formOpen:
		return kv.From(from)
	}
	d.fail(fmt.Errorf("form %d of a range", form))
	return kv.Range{}
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendTxn appends the encoding of t, which is valid.
func AppendTxn(dst []byte, t *kv.Txn) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.If)))
	for i := range t.If {
		c := &t.If[i]
		dst = appendRange(append(dst, byte(c.Target), byte(c.Is)), c.Range)
		if c.Target == kv.TargetValue {
			dst = appendBytes(dst, c.Value)
		} else {
			dst = binary.AppendUvarint(dst, uint64(c.Number))
		}
	}
	return appendBranch(appendBranch(dst, t.Then), t.Else)
}

func appendBranch(dst []byte, ops []kv.Op) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ops)))
	for i := range ops {
		op := &ops[i]
		dst = append(dst, byte(op.Kind))
		if op.Kind == kv.OpTxn {
			dst = AppendTxn(dst, op.Txn)
			continue
		}
		dst = appendRange(dst, op.Range)
		switch op.Kind {
		case kv.OpSet:
			dst = binary.AppendUvarint(dst, uint64(op.Lease))
			dst = appendBytes(append(dst, stepFlags(op)), op.Value)
		case kv.OpGet:
			dst = append(binary.AppendUvarint(dst, uint64(op.Limit)), stepFlags(op))
		case kv.OpDelete:
			dst = append(dst, stepFlags(op))
		}
	}
	return dst
}

func stepFlags(op *kv.Op) (f byte) {
	for i, set := range [...]bool{op.ReturnPrev, op.Reverse, op.KeysOnly, op.CountOnly} {
		if set {
			f |= 1 << i
		}
	}
	return f
}

// txn decodes a transaction; its values alias the input. What it says may still be
// invalid: see kv.Txn.Validate.
func (d *decoder) txn(depth int) *kv.Txn {
	if depth > kv.MaxTxnDepth {
		d.fail(fmt.Errorf("transactions nested deeper than %d", kv.MaxTxnDepth))
		return &kv.Txn{}
	}
	t := &kv.Txn{}
	if n := d.count(5); n > 0 {
		t.If = make([]kv.Compare, n)
	}
	for i := range t.If {
		c := &t.If[i]
		c.Target, c.Is = kv.Target(d.byte()), kv.Relation(d.byte())
		c.Range = d.keyRange()
		if c.Target == kv.TargetValue {
			c.Value = d.bytes()
		} else {
			c.Number = int64(d.uvarint())
		}
	}
	t.Then, t.Else = d.branch(depth), d.branch(depth)
	return t
}

func (d *decoder) branch(depth int) []kv.Op {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	ops := make([]kv.Op, n)
	for i := range ops {
		op := &ops[i]
		op.Kind = kv.OpKind(d.byte())
		switch op.Kind {
		case kv.OpTxn:
			op.Txn = d.txn(depth + 1)
			continue
		case kv.OpSet, kv.OpGet, kv.OpDelete:
		default:
			d.fail(fmt.Errorf("step of kind %d", op.Kind))
			return nil
		}
		op.Range = d.keyRange()
		switch op.Kind {
		case kv.OpSet:
			op.Lease = kv.LeaseID(d.uvarint())
			d.stepFlags(op)
			op.Value = d.bytes()
		case kv.OpGet:
			op.Limit = int(d.uvarint())
			d.stepFlags(op)
		case kv.OpDelete:
			d.stepFlags(op)
		}
	}
	return ops
}

func (d *decoder) stepFlags(op *kv.Op) {
	f := d.byte()
	if f > stepReturnPrev|stepReverse|stepKeysOnly|stepCountOnly {
		d.fail(fmt.Errorf("flags %#x", f))
	}
	op.ReturnPrev, op.Reverse = f&stepReturnPrev != 0, f&stepReverse != 0
	op.KeysOnly, op.CountOnly = f&stepKeysOnly != 0, f&stepCountOnly != 0
}

const (
	responseMore = 1 << iota
	responseTxn
	responseKeysOnly // the items' values are nil, not empty
)

// AppendTxnResult appends the encoding of r, without its revision, which stands
// beside it.
func AppendTxnResult(dst []byte, r *kv.TxnResult) []byte {
	succeeded := byte(0)
	if r.Succeeded {
		succeeded = 1
	}
	dst = binary.AppendUvarint(append(dst, succeeded), uint64(len(r.Results)))
	for i := range r.Results {
		op := &r.Results[i]
		var flags byte
		if op.More {
			flags |= responseMore
		}
		if op.Txn != nil {
			flags |= responseTxn
		}
		if len(op.Items) > 0 && op.Items[0].Value == nil {
			flags |= responseKeysOnly
		}
		dst = binary.AppendUvarint(append(dst, flags), uint64(op.Count))
		dst = binary.AppendUvarint(dst, uint64(len(op.Items)))
		for j := range op.Items {
			dst = appendItem(dst, &op.Items[j])
		}
		if op.Txn != nil {
			dst = AppendTxnResult(dst, op.Txn)
		}
	}
	return dst
}

func appendItem(dst []byte, it *kv.Item) []byte {
	dst = appendBytes(appendString(dst, it.Key), it.Value)
	dst = binary.AppendUvarint(dst, uint64(it.CreateRevision))
	dst = binary.AppendUvarint(dst, uint64(it.ModRevision))
	dst = binary.AppendUvarint(dst, uint64(it.Version))
	return binary.AppendUvarint(dst, uint64(it.Lease))
}

// DecodeTxnResult decodes a response; its items are copies.
func DecodeTxnResult(b []byte) (kv.TxnResult, error) {
	d := decoder{b: b}
	r := d.txnResult(1)
	return r, d.finish("response of a transaction")
}

func (d *decoder) txnResult(depth int) (r kv.TxnResult) {
	if depth > kv.MaxTxnDepth {
		d.fail(fmt.Errorf("responses nested deeper than %d", kv.MaxTxnDepth))
		return r
	}
	r.Succeeded = d.byte() == 1
	if n := d.count(3); n > 0 {
		r.Results = make([]kv.OpResult, n)
	}
	for i := range r.Results {
		op := &r.Results[i]
		flags := d.byte()
		op.More, op.Count = flags&responseMore != 0, int64(d.uvarint())
		if n := d.count(6); n > 0 {
			op.Items = make([]kv.Item, n)
		}
		for j := range op.Items {
			if op.Items[j] = d.item(); flags&responseKeysOnly != 0 {
				op.Items[j].Value = nil
			}
		}
		if flags&responseTxn != 0 {
			inner := d.txnResult(depth + 1)
			op.Txn = &inner
		}
	}
	return r
}

func (d *decoder) item() kv.Item {
	return kv.Item{Key: string(d.bytes()), Value: append([]byte{}, d.bytes()...), CreateRevision: kv.Revision(d.uvarint()),
		ModRevision: kv.Revision(d.uvarint()), Version: int64(d.uvarint()), Lease: kv.LeaseID(d.uvarint())}
}
