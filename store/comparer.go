package store

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// comparer orders keys by their prefix, then by their version suffix: the
// newest version first, since revisions are stored inverted. Pebble records
// the name in every store; it is for ever.
var comparer = &pebble.Comparer{
	Name:                 "replkv.mvcc.v1",
	Split:                split,
	Compare:              compare,
	Equal:                bytes.Equal,
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	AbbreviatedKey:       abbreviate,
	Separator:            separator,
	Successor:            successor,
	ImmediateSuccessor: func(dst, a []byte) []byte {
		// a ends in 0x00: the next prefix that is legal under split.
		return append(append(dst, a...), bareEnd)
	},
}

// split returns the length of the prefix. A length byte that does not fit is
// none of ours; the whole key is then the prefix, so that Pebble, which may
// pass us fragments, never slices out of range.
func split(k []byte) int {
	if n := len(k); n > suffixLen && k[n-1] == suffixLen {
		return n - suffixLen
	}
	return len(k)
}

func compare(a, b []byte) int {
	as, bs := split(a), split(b)
	if c := bytes.Compare(a[:as], b[:bs]); c != 0 {
		return c
	}
	return bytes.Compare(a[as:], b[bs:])
}

// abbreviate returns the first 8 bytes of the prefix, zero-padded.
func abbreviate(k []byte) uint64 {
	k = k[:split(k)]
	if len(k) >= 8 {
		return binary.BigEndian.Uint64(k)
	}
	var b [8]byte
	copy(b[:], k)
	return binary.BigEndian.Uint64(b[:])
}

// separator shortens a to a bare key in [a, b) if it can.
func separator(dst, a, b []byte) []byte {
	as, bs := split(a), split(b)
	if as < 2 || bs < 2 || a[as-1] != bareEnd || b[bs-1] != bareEnd || bytes.Equal(a[:as], b[:bs]) {
		return append(dst, a...)
	}
	ap, bp := a[:as-1], b[:bs-1]
	n := len(dst)
	dst = pebble.DefaultComparer.Separator(dst, ap, bp)
	if bytes.Equal(dst[n:], ap) {
		return append(dst[:n], a...)
	}
	// What Separator chose is above ap, so a bare key of it is above every
	// version of a.
	return append(dst, bareEnd)
}

func successor(dst, a []byte) []byte {
	as := split(a)
	if as < 2 || a[as-1] != bareEnd {
		return append(dst, a...)
	}
	n := len(dst)
	dst = pebble.DefaultComparer.Successor(dst, a[:as-1])
	if bytes.Equal(dst[n:], a[:as-1]) {
		return append(dst[:n], a...)
	}
	return append(dst, bareEnd)
}
