package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// appends is the list-append test of Elle and Jepsen: transactions read lists and
// append unique elements to some. No cycles need to be searched: the store says which
// order it claims, by revisions, and watches tell all that was committed. checkPast
// compares: each transaction read the lists as they were at its revision, and appended
// to them and nothing else; and the order of revisions agrees with time.
type appends struct{}

const (
	appendKeys    = 4
	appendClients = 3
)

func listKey(i int) string { return fmt.Sprintf("list/%d", i) }

func (appends) begin(context.Context, *run) error { return nil }
func (appends) settle(context.Context, *run)      {}

func (appends) clients(r *run) (out []func(context.Context)) {
	for range appendClients {
		c := r.newCaller()
		out = append(out, func(ctx context.Context) {
			for n := 0; ctx.Err() == nil; n++ {
				c.append(ctx, fmt.Sprintf("%d.%d", c.number, n))
				c.rest(ctx)
			}
		})
	}
	return out
}

// append runs a transaction: it reads some lists by key or by range, and appends to
// some, or none.
func (c *client) append(ctx context.Context, element string) {
	keys := c.rng.Perm(appendKeys)[:1+c.rng.IntN(3)]
	writes := keys[:c.rng.IntN(len(keys)+1)]
	byRange := c.rng.IntN(3) == 0
	if len(writes) == 0 && c.rng.IntN(2) == 0 {
		op := &Op{Kind: kindView}
		c.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
			return db.View(ctx, func(tx *replkv.ReadTx) (err error) {
				op.Revision = tx.Revision()
				op.Read, err = readLists(tx, keys, byRange)
				return err
			})
		})
		return
	}
	op := &Op{Kind: kindUpdate}
	c.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		op.Revision, err = db.Update(ctx, func(tx *replkv.Tx) (err error) {
			if op.Read, err = readLists(tx, keys, byRange); err != nil { // the function may run again
				return err
			}
			op.Puts = map[string]string{}
			for _, k := range writes {
				key := listKey(k)
				op.Puts[key] = string(op.Read[key].Value) + " " + element
				if err := tx.Set(key, []byte(op.Puts[key])); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
}

// reader is a ReadTx or Tx.
type reader interface {
	Get(key string) (replkv.Item, error)
	Scan(r replkv.Range, opts ...replkv.ScanOption) iter.Seq2[replkv.Item, error]
}

func readLists(tx reader, keys []int, byRange bool) (map[string]replkv.Item, error) {
	if byRange {
		for k := range appendKeys {
			keys = append(keys[:k:k], k)
		}
	}
	read := map[string]replkv.Item{}
	for _, k := range keys {
		read[listKey(k)] = replkv.Item{}
		if byRange {
			continue
		}
		item, err := tx.Get(listKey(k))
		if err != nil && !errors.Is(err, replkv.ErrNotFound) {
			return nil, err
		}
		read[listKey(k)] = item
	}
	if byRange {
		for item, err := range tx.Scan(replkv.Prefix("list/")) {
			if err != nil {
				return nil, err
			}
			read[item.Key] = item
		}
	}
	return read, nil
}

// check: an element is appended to what was there before, by all that was committed.
func (appends) check(r *run) {
	if r.past == nil {
		return
	}
	for k := range appendKeys {
		key := listKey(k)
		for _, v := range r.past.keys[key] {
			value, now := string(v.item.Value), string(r.past.at(key, v.rev-1).Value)
			if before, _ := cutLast(value); before != now && r.past.known(key, v.rev-1) {
				r.fail("revision %d makes %q of %q", v.rev, value, now)
			}
		}
	}
}
