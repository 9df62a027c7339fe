package store

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

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

// Plant overwrites the newest value of key behind the back of apply, so that
// a test can see whether a difference between replicas is noticed.
func (s *Store) Plant(key, value string) error {
	e, err := s.acquire()
	if err != nil {
		return err
	}
	defer e.release()
	item, err := s.getNewest(e.db, key)
	if err != nil {
		return err
	}
	r := row{resolved: true, create: uint64(item.CreateRevision), version: uint64(item.Version)}
	return e.db.Set(appendVersion(appendBare(nil, key), uint64(item.ModRevision)), append(r.appendHeader(nil), value...), pebble.NoSync)
}
