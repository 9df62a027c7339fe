package store

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	// Checked is the revision at which apply last looked at all hints and found none
	// stale: who asks for more room than there is does not make it look each time.
	Checked uint64
}

// leaseVersion 2 has Checked; in a row of version 1 it is 0.
const leaseVersion = 2

func (l *Lease) append(dst []byte) []byte {
	dst = append(dst, leaseVersion)
	for _, v := range [...]uint64{l.Generation, uint64(l.TTL.Milliseconds()), uint64(l.Remaining.Milliseconds()), l.Hints, l.HintBytes, l.Checked} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func decodeLease(b []byte) (l Lease, err error) {
	if len(b) == 0 {
		return l, fmt.Errorf("%w: empty lease row", kv.ErrCorrupt)
	}
	var v [6]uint64
	fields := len(v)
	switch b[0] {
	case leaseVersion:
	case 1:
		fields--
	default:
		return l, fmt.Errorf("%w: lease row version %d", kv.ErrFormatTooNew, b[0])
	}
	b = b[1:]
	for i := range fields {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return l, fmt.Errorf("%w: lease row ends early", kv.ErrCorrupt)
		}
		v[i], b = u, b[n:]
	}
	if len(b) > 0 || v[1] > command.MaxLeaseTTL || v[2] > v[1] {
		return l, fmt.Errorf("%w: lease row: ttl %d, remaining %d, %d bytes left over", kv.ErrCorrupt, v[1], v[2], len(b))
	}
	return Lease{Generation: v[0], TTL: millis(v[1]), Remaining: millis(v[2]), Hints: v[3], HintBytes: v[4], Checked: v[5]}, nil
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
