package store

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/replkv/replkv/kv"
)

// HashAt returns a hash of all resolved items at revision rev and their
// number: equal on members that hold equal data, whatever each of them has
// settled or removed.
func (s *Store) HashAt(rev kv.Revision) (sum [32]byte, items int, err error) {
	h := sha256.New()
	var b []byte
	from := kv.All()
	for {
		page, _, more, err := s.Scan(from, Page{Revision: rev, Limit: 1000, MaxBytes: 1 << 20})
		if err != nil {
			return sum, 0, err
		}
		for i := range page {
			it := &page[i]
			b = binary.AppendUvarint(b[:0], uint64(len(it.Key)))
			b = append(b, it.Key...)
			b = binary.AppendUvarint(b, uint64(len(it.Value)))
			b = append(b, it.Value...)
			for _, v := range [...]uint64{uint64(it.CreateRevision), uint64(it.ModRevision), uint64(it.Version), uint64(it.Lease)} {
				b = binary.AppendUvarint(b, v)
			}
			h.Write(b)
		}
		items += len(page)
		if !more {
			h.Sum(sum[:0])
			return sum, items, nil
		}
		from = kv.From(page[len(page)-1].Key + "\x00")
	}
}
