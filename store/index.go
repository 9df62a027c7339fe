package store

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// indexChunkBytes bounds one row of the revision index.
const indexChunkBytes = 64 << 10

const indexVersion = 1

// ChangeKind says what happened to a key at a revision.
type ChangeKind uint8

const (
	Put    ChangeKind = 1
	Remove ChangeKind = 2
)

// IndexedChange is one element of the revision index.
type IndexedChange struct {
	Revision kv.Revision
	Sub      uint64
	Kind     ChangeKind
	Key      []byte
}

// indexBuilder gathers the changes of one entry into rows
//
//	version | uvarint proposer time | { uvarint revision - previous | uvarint sub | kind | uvarint length | key }
//
// The first revision of a row counts from 0.
type indexBuilder struct {
	chunks   [][]byte
	cur      []byte
	last     uint64 // revision of the newest element in cur; 0 at a row's begin
	newest   uint64 // of the entry
	timeMill uint64
}

func (x *indexBuilder) reset(timeMillis uint64) {
	x.chunks, x.cur, x.last, x.newest, x.timeMill = x.chunks[:0], x.cur[:0], 0, 0, timeMillis
}

func (x *indexBuilder) add(rev, sub uint64, kind ChangeKind, key []byte) {
	if len(x.cur) > 0 && len(x.cur)+len(key)+2*binary.MaxVarintLen64 > indexChunkBytes {
		x.chunks = append(x.chunks, x.cur)
		x.cur, x.last = nil, 0
	}
	if len(x.cur) == 0 {
		x.cur = append(x.cur, indexVersion)
		x.cur = binary.AppendUvarint(x.cur, x.timeMill)
	}
	x.cur = binary.AppendUvarint(x.cur, rev-x.last)
	x.cur = binary.AppendUvarint(x.cur, sub)
	x.cur = append(x.cur, byte(kind))
	x.cur = binary.AppendUvarint(x.cur, uint64(len(key)))
	x.cur = append(x.cur, key...)
	x.last, x.newest = rev, rev
}

// flush calls set with the entry's rows, under the entry's last revision.
func (x *indexBuilder) flush(set func(key, value []byte) error) error {
	if x.newest == 0 {
		return nil
	}
	for i, c := range x.chunks {
		if err := set(indexKey(x.newest, uint32(i)), c); err != nil {
			return err
		}
	}
	return set(indexKey(x.newest, uint32(len(x.chunks))), x.cur)
}

// decodeIndexRow calls fn with each element; keys alias b.
func decodeIndexRow(b []byte, fn func(IndexedChange)) (timeMillis uint64, err error) {
	if len(b) == 0 {
		return 0, fmt.Errorf("%w: empty index row", kv.ErrCorrupt)
	}
	if b[0] != indexVersion {
		return 0, fmt.Errorf("%w: index row version %d", kv.ErrFormatTooNew, b[0])
	}
	short := fmt.Errorf("%w: index row ends early", kv.ErrCorrupt)
	b = b[1:]
	next := func() (v uint64, ok bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	timeMillis, ok := next()
	if !ok {
		return 0, short
	}
	rev := uint64(0)
	for len(b) > 0 {
		delta, ok1 := next()
		sub, ok2 := next()
		if !ok1 || !ok2 || len(b) == 0 {
			return 0, short
		}
		kind := ChangeKind(b[0])
		b = b[1:]
		n, ok := next()
		if !ok || n > uint64(len(b)) {
			return 0, short
		}
		if kind != Put && kind != Remove {
			return 0, fmt.Errorf("%w: change kind %d", kv.ErrFormatTooNew, kind)
		}
		rev += delta
		fn(IndexedChange{Revision: kv.Revision(rev), Sub: sub, Kind: kind, Key: b[:n:n]})
		b = b[n:]
	}
	return timeMillis, nil
}
