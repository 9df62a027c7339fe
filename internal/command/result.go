package command

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// BatchStatus says what apply did with a batch as a whole.
type BatchStatus uint8

const (
	// Applied: the operations have results of their own.
	Applied BatchStatus = 1
	// UnknownSession: the session was never opened, or ended, or was evicted.
	// Not applied now; whether an earlier copy was, is not known any more.
	UnknownSession BatchStatus = 2
	// BelowLowWater: the session said that it has the answer already.
	BelowLowWater BatchStatus = 3
	// OutsideWindow: the sequence number runs too far ahead. Never applied.
	OutsideWindow BatchStatus = 4
)

// OpStatus says what apply did with one operation.
type OpStatus uint8

const (
	OK           OpStatus = 1
	Conflict     OpStatus = 2 // the condition did not hold
	TooLarge     OpStatus = 3 // a range of too many keys or bytes
	Compacted    OpStatus = 4 // Compact: at or below the compacted revision
	Future       OpStatus = 5 // Compact: above the current revision
	Invalid      OpStatus = 6 // the operation contradicts itself
	Stale        OpStatus = 8 // OpenSession: the member has opened a later one; Revoke, Renew: of another term or generation
	DroppedReply OpStatus = 7 // done at Revision; the response was too large to keep for a retry
	// OpenSession, Admit: another directory is known under the member's id.
	OtherIdentity OpStatus = 9
	// OpenSession: this directory's member was removed.
	RemovedMember OpStatus = 10
	Exists        OpStatus = 11 // Grant: of an id that is there
	LeaseNotFound OpStatus = 12 // Set, Revoke, Renew
)

// OpResult is the answer to one operation.
type OpResult struct {
	Status   OpStatus
	Revision uint64 // the store's revision after the operation
	Deleted  uint64
	Prev     []PrevItem
	// Response is the encoded answer to a Txn that was done, whichever branch it
	// took; else empty.
	Response []byte
}

// PrevItem is a previous version that an operation returned.
type PrevItem struct {
	Key, Value                  []byte
	Create, Mod, Version, Lease uint64
}

// BatchResult is the answer to a batch.
type BatchResult struct {
	Status BatchStatus
	Ops    []OpResult
}

// A result of version 2 has responses. What has none is written in version 1.
const (
	resultVersion          = 1
	resultVersionResponses = 2
)

// MaxKeptResponse bounds the encoded response of a batch that is kept for
// retries; above it a retry is told that the batch was done, without data.
const MaxKeptResponse = 64 << 10

// AppendResult appends the encoding of r.
func AppendResult(dst []byte, r *BatchResult) []byte {
	version := byte(resultVersion)
	for i := range r.Ops {
		if len(r.Ops[i].Response) > 0 {
			version = resultVersionResponses
		}
	}
	dst = append(dst, version, byte(r.Status))
	dst = binary.AppendUvarint(dst, uint64(len(r.Ops)))
	for i := range r.Ops {
		op := &r.Ops[i]
		dst = append(dst, byte(op.Status))
		dst = binary.AppendUvarint(dst, op.Revision)
		dst = binary.AppendUvarint(dst, op.Deleted)
		dst = binary.AppendUvarint(dst, uint64(len(op.Prev)))
		for j := range op.Prev {
			p := &op.Prev[j]
			dst = appendBytes(dst, p.Key)
			dst = appendBytes(dst, p.Value)
			dst = binary.AppendUvarint(dst, p.Create)
			dst = binary.AppendUvarint(dst, p.Mod)
			dst = binary.AppendUvarint(dst, p.Version)
			dst = binary.AppendUvarint(dst, p.Lease)
		}
		if version == resultVersionResponses {
			dst = appendBytes(dst, op.Response)
		}
	}
	return dst
}

// WithoutResponses returns r with the data of its operations dropped, as it
// is kept when it exceeds MaxKeptResponse.
func (r *BatchResult) WithoutResponses() *BatchResult {
	out := &BatchResult{Status: r.Status, Ops: make([]OpResult, len(r.Ops))}
	for i, op := range r.Ops {
		out.Ops[i] = op.WithoutResponse()
	}
	return out
}

// PrevBytes is the length of the keys and values of what was deleted.
func (r *OpResult) PrevBytes() (n int) {
	for i := range r.Prev {
		n += len(r.Prev[i].Key) + len(r.Prev[i].Value)
	}
	return n
}

// WithoutResponse drops the data, if there is any. Of a transaction it stays known
// which branch was taken: whether an Update was committed, or conflicted, must not be
// in doubt.
func (r OpResult) WithoutResponse() OpResult {
	switch {
	case len(r.Response) > 0:
		r.Response, r.Status = []byte{r.Response[0], 0}, DroppedReply // no results
	case len(r.Prev) > 0:
		r.Prev, r.Status = nil, DroppedReply
	}
	return r
}

// DecodeResult decodes a batch's result; its byte slices alias b.
func DecodeResult(b []byte) (*BatchResult, error) {
	d := decoder{b: b}
	version := d.byte()
	if d.err == nil && version != resultVersion && version != resultVersionResponses {
		return nil, fmt.Errorf("%w: result version %d", kv.ErrFormatTooNew, version)
	}
	r := &BatchResult{Status: BatchStatus(d.byte())}
	n := d.count(4)
	if n > 0 {
		r.Ops = make([]OpResult, n)
	}
	for i := range r.Ops {
		op := &r.Ops[i]
		op.Status = OpStatus(d.byte())
		op.Revision = d.uvarint()
		op.Deleted = d.uvarint()
		prev := d.count(6)
		if prev > 0 {
			op.Prev = make([]PrevItem, prev)
		}
		for j := range op.Prev {
			op.Prev[j] = PrevItem{Key: d.bytes(), Value: d.bytes(),
				Create: d.uvarint(), Mod: d.uvarint(), Version: d.uvarint(), Lease: d.uvarint()}
		}
		if version == resultVersionResponses {
			op.Response = d.bytes()
		}
	}
	if err := d.finish("result"); err != nil {
		return nil, err
	}
	return r, nil
}
