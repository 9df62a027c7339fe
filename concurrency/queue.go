package concurrency

import (
	"context"
	"fmt"
	"strings"

	"github.com/replkv/replkv/kv"
)

// queue is the keys of those who hold a name or wait for it, in the order of their
// CreateRevision. The first holds it.
type queue struct {
	prefix string
}

func queueOf(name string) queue { return queue{prefix: name + "/"} }

// key is that of a lease's place.
func (q queue) key(id kv.LeaseID) string { return fmt.Sprintf("%s%016x", q.prefix, int64(id)) }

func (q queue) keys() kv.Range { return kv.Prefix(q.prefix) }

// has says whether an item that is there is a place. Others' keys may lie below the
// name.
func (q queue) has(it *kv.Item) bool { return it.Lease != 0 && it.Key == q.key(it.Lease) }

// older says who of two comes first. The key decides nothing unless one transaction
// made both, which none here does.
func older(a, b *kv.Item) bool {
	if a.CreateRevision != b.CreateRevision {
		return a.CreateRevision < b.CreateRevision
	}
	return strings.Compare(a.Key, b.Key) < 0
}

// first returns the item, without its value, of the first; the zero Item if there is
// nobody.
func (q queue) first(tx *kv.ReadTx) (first kv.Item, err error) {
	for it, err := range tx.Scan(q.keys(), kv.KeysOnly()) {
		if err != nil {
			return first, err
		}
		if q.has(&it) && (first.Key == "" || older(&it, &first)) {
			first = it
		}
	}
	return first, nil
}

// ahead returns who comes right before the item of key; the zero Item if it is the
// first. errDeleted if it is not there, created at that revision.
func (q queue) ahead(tx *kv.ReadTx, key string, created kv.Revision) (ahead kv.Item, err error) {
	there := false
	me := kv.Item{Key: key, CreateRevision: created}
	for it, err := range tx.Scan(q.keys(), kv.KeysOnly()) {
		switch {
		case err != nil:
			return ahead, err
		case it.Key == key:
			there = it.CreateRevision == created
		case q.has(&it) && older(&it, &me) && (ahead.Key == "" || older(&ahead, &it)):
			ahead = it
		}
	}
	if !there {
		return ahead, errDeleted
	}
	return ahead, nil
}

// leader returns the item of the first, or ErrNotFound.
func (q queue) leader(ctx context.Context, store kv.KV) (leader kv.Item, err error) {
	err = store.View(ctx, func(tx *kv.ReadTx) error {
		first, err := q.first(tx)
		if err == nil && first.Key == "" {
			err = kv.ErrNotFound
		}
		if err == nil {
			leader, err = tx.Get(first.Key)
		}
		return err
	})
	return leader, err
}
