package command

import (
	"encoding/binary"
	"math"
)

// The operations on leases. Times are in milliseconds.

// Limits that apply evaluates, part of the format.
const (
	MaxLeaseID  = math.MaxInt64
	MinLeaseTTL = 1_000
	// MaxLeaseTTL is etcd's limit, 285 years: it fits a time.Duration.
	MaxLeaseTTL = 9_000_000_000 * 1000
)

// leaseFields are what follows the lease's id in the body.
func (op *Op) leaseFields() []*uint64 {
	switch op.Kind {
	case Grant:
		return []*uint64{&op.TTL}
	case Revoke:
		return []*uint64{&op.Term, &op.Generation}
	}
	return []*uint64{&op.TTL, &op.Term, &op.Generation}
}

func (op *Op) appendLease(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, op.Lease)
	for _, f := range op.leaseFields() {
		dst = binary.AppendUvarint(dst, *f)
	}
	return dst
}

func (op *Op) leaseLen() int {
	n := uvarintLen(op.Lease)
	for _, f := range op.leaseFields() {
		n += uvarintLen(*f)
	}
	return n
}

func (op *Op) decodeLease(d *decoder) {
	op.Lease = d.uvarint()
	for _, f := range op.leaseFields() {
		*f = d.uvarint()
	}
}
