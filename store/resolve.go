package store

import (
	"github.com/cockroachdb/pebble/v2"
)

// resolveWalk is how many rows a resolution may walk before the key is queued
// for settling, and how many blind writes of a hot key may follow each other
// unresolved.
const resolveWalk = 32

// resolve returns CreateRevision and Version of the row r at rev, on which the
// iterator stands; it walks to older rows of the key until one knows, or the
// history begins. The iterator is left on the key's oldest row looked at, or
// past it. The walk may go below the compacted revision: removal settles a
// survivor in the same batch that removes its elders.
func resolve(it *pebble.Iterator, rev uint64, r *row) (create, version uint64, walked int, err error) {
	if r.resolved {
		return r.create, r.version, 0, nil
	}
	prefix := append([]byte{}, it.Key()[:split(it.Key())]...)
	create, version = rev, 1
	for it.Next() {
		k := it.Key()
		if string(k[:split(k)]) != string(prefix) {
			break
		}
		walked++
		h, _, err := headAt(it)
		if err != nil {
			return 0, 0, walked, err
		}
		if h.tomb {
			break
		}
		if h.row.resolved {
			return h.row.create, h.row.version + version, walked, nil
		}
		create, version = h.mod, version+1
	}
	return create, version, walked, asCorrupt(it.Error())
}
