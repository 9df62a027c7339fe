package store

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// row is the value of a data key: one version of a user key.
//
//	flags | uvarint sub | [uvarint create, uvarint version] | [uvarint lease] | value
//
// Whether create and version are there (rowResolved) is local to a member: a
// blind write does not know them, and settling adds them later. Hashes and
// comparisons of replicas therefore look at resolved items only.
type row struct {
	tombstone bool
	resolved  bool
	sub       uint64 // orders the changes of one revision
	create    uint64 // with resolved
	version   uint64 // with resolved
	lease     uint64 // 0: none
	value     []byte
}

const (
	rowTombstone = 1 << iota
	rowResolved
	rowLease

	rowFlags = rowTombstone | rowResolved | rowLease
)

const maxRowHeader = 1 + 4*binary.MaxVarintLen64

// appendHeader appends everything but the value.
func (r *row) appendHeader(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	var flags byte
	dst = binary.AppendUvarint(dst, r.sub)
	if r.tombstone {
		flags |= rowTombstone
	}
	if r.resolved {
		flags |= rowResolved
		dst = binary.AppendUvarint(dst, r.create)
		dst = binary.AppendUvarint(dst, r.version)
	}
	if r.lease != 0 {
		flags |= rowLease
		dst = binary.AppendUvarint(dst, r.lease)
	}
	dst[at] = flags
	return dst
}

// decodeRow decodes a row; its value aliases b.
func decodeRow(b []byte) (row, error) {
	var r row
	if len(b) < 2 {
		return r, fmt.Errorf("%w: row of %d bytes", kv.ErrCorrupt, len(b))
	}
	flags := b[0]
	if flags&^rowFlags != 0 {
		return r, fmt.Errorf("%w: row flags %#x", kv.ErrFormatTooNew, flags)
	}
	b = b[1:]
	short := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			short, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	r.tombstone = flags&rowTombstone != 0
	r.sub = next()
	if r.resolved = flags&rowResolved != 0; r.resolved {
		r.create = next()
		r.version = next()
	}
	if flags&rowLease != 0 {
		r.lease = next()
	}
	if short {
		return row{}, fmt.Errorf("%w: row ends early", kv.ErrCorrupt)
	}
	r.value = b
	return r, nil
}
