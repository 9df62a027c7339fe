package command

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// SessionID names a session: a random number drawn by its owner.
type SessionID [16]byte

// NoSession is the session of batches that need none: those that hold only
// operations whose repetition is harmless (Epoch, OpenSession, Compact,
// Setting, Admit, Renew, Revoke with a term).
var NoSession SessionID

// SessionWindow is how far a batch's seq may run ahead of the low-water mark.
// Part of the format: a batch beyond is refused by apply.
const SessionWindow = 64

// Batch is a session's unit of exactly-once: its encoded bytes never change;
// a retry sends the same bytes.
type Batch struct {
	Session  SessionID
	Seq      uint64 // of this batch within the session, from 1; 0 with NoSession
	LowWater uint64 // the results of all batches up to here have reached their callers
	ops      []byte
	n        int
}

// AppendBatchHeader begins the encoding of a batch of n operations; the
// caller appends the operations.
func AppendBatchHeader(dst []byte, session SessionID, seq, lowWater uint64, n int) []byte {
	dst = append(dst, session[:]...)
	dst = binary.AppendUvarint(dst, seq)
	dst = binary.AppendUvarint(dst, lowWater)
	return binary.AppendUvarint(dst, uint64(n))
}

// MaxBatchHeader bounds the length of a batch's header.
const MaxBatchHeader = 16 + 3*binary.MaxVarintLen64

// DecodeBatch decodes the header of a batch; Ops decodes the rest.
func DecodeBatch(b []byte) (Batch, error) {
	d := decoder{b: b}
	var out Batch
	copy(out.Session[:], d.take(len(out.Session)))
	out.Seq = d.uvarint()
	out.LowWater = d.uvarint()
	out.n = d.count(3)
	if d.err != nil {
		return Batch{}, fmt.Errorf("%w: batch: %v", kv.ErrCorrupt, d.err)
	}
	out.ops = d.b
	return out, nil
}

// Len returns the number of operations.
func (b *Batch) Len() int { return b.n }

// Ops calls fn with each operation in order, until one fails or the batch
// turns out to be corrupt.
func (b *Batch) Ops(fn func(i int, op *Op) error) error {
	d := decoder{b: b.ops}
	var op Op
	for i := range b.n {
		if err := decodeOp(&d, &op); err != nil {
			return err
		}
		if err := fn(i, &op); err != nil {
			return err
		}
	}
	return d.finish("batch")
}
