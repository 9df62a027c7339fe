package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

// interleaved runs two Updates, each on its own member, so that both have read before
// either commits.
func interleaved(t *testing.T, c *Cluster, first, second func(*replkv.Tx) error) {
	t.Helper()
	var wg, read sync.WaitGroup
	read.Add(2)
	for i, fn := range []func(*replkv.Tx) error{first, second} {
		once := sync.OnceFunc(func() { read.Done(); read.Wait() })
		wg.Go(func() {
			if _, err := c.DB(i).Update(t.Context(), func(tx *replkv.Tx) error {
				defer once()
				return fn(tx)
			}); err != nil {
				t.Errorf("Update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestWriteSkew: two doctors are on call, and each goes home if the other stays. One
// of them must stay.
func TestWriteSkew(t *testing.T) {
	c := NewCluster(t, 3)
	for _, who := range []string{"alice", "bob"} {
		if _, err := c.DB(0).Set(t.Context(), "on-call/"+who, nil); err != nil {
			t.Fatal(err)
		}
	}
	home := func(who, other string) func(*replkv.Tx) error {
		return func(tx *replkv.Tx) error {
			if _, err := tx.Get("on-call/" + other); errors.Is(err, replkv.ErrNotFound) {
				return nil
			}
			return tx.Delete("on-call/" + who)
		}
	}
	interleaved(t, c, home("alice", "bob"), home("bob", "alice"))
	if n := count(t, c.DB(2), replkv.Prefix("on-call/")); n != 1 {
		t.Errorf("%d are on call", n)
	}
}

// TestPhantom: two Updates book a room if nobody has it; neither sees the other's
// booking, which is a key that was not there.
func TestPhantom(t *testing.T) {
	for name, none := range map[string]func(*replkv.Tx) bool{
		"range": func(tx *replkv.Tx) bool { return len(scan(tx, replkv.Prefix("room/1/"))) == 0 },
		"reverse": func(tx *replkv.Tx) bool {
			return len(scan(tx, replkv.Prefix("room/1/"), replkv.Reverse(), replkv.Limit(1))) == 0
		},
		"key": func(tx *replkv.Tx) bool { _, err := tx.Get("room/1/owner"); return errors.Is(err, replkv.ErrNotFound) },
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCluster(t, 3)
			book := func(who string) func(*replkv.Tx) error {
				return func(tx *replkv.Tx) error {
					if !none(tx) {
						return nil
					}
					key := "room/1/" + who
					if name == "key" {
						key = "room/1/owner"
					}
					return tx.Set(key, []byte(who))
				}
			}
			interleaved(t, c, book("a"), book("b"))
			if n := count(t, c.DB(2), replkv.Prefix("room/1/")); n != 1 {
				t.Errorf("%d have the room", n)
			}
		})
	}
}

func scan(tx *replkv.Tx, r replkv.Range, opts ...replkv.ScanOption) (items []replkv.Item) {
	for item, err := range tx.Scan(r, opts...) {
		if err != nil {
			panic(err)
		}
		items = append(items, item)
	}
	return items
}

func count(t *testing.T, db *replkv.DB, r replkv.Range) int {
	t.Helper()
	res, err := db.Txn(t.Context(), replkv.Txn{Then: []replkv.Op{{Kind: replkv.OpGet, Range: r, CountOnly: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return int(res.Results[0].Count)
}

// TestUpdateSeesItself: an Update reads its own writes, in Gets and Scans of both
// directions, with limits.
func TestUpdateSeesItself(t *testing.T) {
	c := NewCluster(t, 1)
	db := c.DB(0)
	for _, k := range []string{"b", "d", "f", "h"} {
		if _, err := db.Set(t.Context(), k, []byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(items []replkv.Item) string {
		var b strings.Builder
		for _, it := range items {
			b.WriteString(it.Key)
		}
		return b.String()
	}
	rev, err := db.Update(t.Context(), func(tx *replkv.Tx) error {
		if err := errors.Join(tx.Set("a", nil), tx.Set("d", []byte("new")), tx.Set("e", nil), tx.Set("i", nil), tx.Delete("f"), tx.Delete("nothing")); err != nil {
			return err
		}
		for want, got := range map[string][]replkv.Item{
			"abdehi": scan(tx, replkv.All()), "ihedba": scan(tx, replkv.All(), replkv.Reverse()),
			"abd": scan(tx, replkv.All(), replkv.Limit(3)), "ihe": scan(tx, replkv.All(), replkv.Reverse(), replkv.Limit(3)),
			"de": scan(tx, replkv.Between("c", "h")), "": scan(tx, replkv.Key("f")),
		} {
			if keys(got) != want {
				t.Errorf("scanned %q, want %q", keys(got), want)
			}
		}
		if it, err := tx.Get("d"); err != nil || string(it.Value) != "new" || it.ModRevision != 0 {
			t.Errorf("Get of its own write: %+v, %v", it, err)
		}
		if _, err := tx.Get("f"); !errors.Is(err, replkv.ErrNotFound) {
			t.Errorf("Get of its own deletion: %v", err)
		}
		n, err := tx.DeleteRange(replkv.Between("h", "z"))
		if n != 2 {
			t.Errorf("deleted %d", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []replkv.Item
	for item, err := range db.Scan(t.Context(), replkv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		if item.ModRevision != rev && item.Key != "b" {
			t.Errorf("%s at revision %d, the commit was %d", item.Key, item.ModRevision, rev)
		}
		got = append(got, item)
	}
	if keys(got) != "abde" {
		t.Errorf("%q is there in the end", keys(got))
	}
}

// TestTxnRefused: what is wrong gets a typed error, and changes nothing.
func TestTxnRefused(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(_ int, cfg *replkv.Config) { cfg.MaxTxnOps, cfg.MaxKeyBytes, cfg.MaxValueBytes = 5, 10, 1000 }))
	db := c.DB((c.Leader() + 1) % 3)
	ctx := t.Context()
	set := replkv.SetOp("a", []byte("v"))
	rev, err := db.Revision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	then := func(ops ...replkv.Op) func() error {
		return func() error { _, err := db.Txn(ctx, replkv.Txn{Then: ops}); return err }
	}
	update := func(fn func(tx *replkv.Tx) error) func() error {
		return func() error { _, err := db.Update(ctx, fn); return err }
	}
	var kept *replkv.Tx
	mine := errors.New("mine")
	for name, f := range map[string]struct {
		do   func() error
		want error
	}{
		"a key twice":       {then(set, set), replkv.ErrInvalidArgument},
		"zero range":        {then(set, replkv.GetOp(replkv.Range{})), replkv.ErrInvalidArgument},
		"six operations":    {then(set, replkv.SetOp("b", nil), replkv.SetOp("c", nil), replkv.SetOp("d", nil), replkv.SetOp("e", nil), replkv.SetOp("f", nil)), replkv.ErrTooLarge},
		"six within":        {then(set, replkv.TxnOp(replkv.Txn{Else: []replkv.Op{replkv.SetOp("b", nil), replkv.SetOp("c", nil), replkv.SetOp("d", nil), replkv.SetOp("e", nil)}})), replkv.ErrTooLarge},
		"a long key":        {then(set, replkv.SetOp("12345678901", nil)), replkv.ErrTooLarge},
		"a long key within": {then(set, replkv.TxnOp(replkv.Txn{Else: []replkv.Op{replkv.SetOp("12345678901", nil)}})), replkv.ErrTooLarge},
		"a long bound":      {then(set, replkv.GetOp(replkv.From(strings.Repeat("k", 64<<10+2)))), replkv.ErrTooLarge},
		"a large value":     {then(set, replkv.SetOp("b", make([]byte, 1001))), replkv.ErrTooLarge},
		"unknown target": {func() error {
			_, err := db.Txn(ctx, replkv.Txn{If: []replkv.Compare{{Range: replkv.All(), Target: 99, Is: replkv.Equal}}, Then: []replkv.Op{set}})
			return err
		}, replkv.ErrInvalidArgument},
		"update: fn fails":    {update(func(tx *replkv.Tx) error { return errors.Join(tx.Set("a", nil), mine) }), mine},
		"update: empty key":   {update(func(tx *replkv.Tx) error { return errors.Join(tx.Set("a", nil), tx.Set("", nil)) }), replkv.ErrInvalidArgument},
		"update: long key":    {update(func(tx *replkv.Tx) error { return tx.Set("12345678901", nil) }), replkv.ErrTooLarge},
		"update: large value": {update(func(tx *replkv.Tx) error { return tx.Set("a", make([]byte, 1001)) }), replkv.ErrTooLarge},
		"update: condition":   {update(func(tx *replkv.Tx) error { return tx.Set("a", nil, replkv.IfAbsent()) }), replkv.ErrInvalidArgument},
		"update: read at a revision": {update(func(tx *replkv.Tx) error {
			for _, err := range tx.Scan(replkv.All(), replkv.AtRevision(1)) {
				return err
			}
			return nil
		}), replkv.ErrInvalidArgument},
		"update: zero range": {update(func(tx *replkv.Tx) error {
			for _, err := range tx.Scan(replkv.Range{}) {
				return err
			}
			return nil
		}), replkv.ErrInvalidArgument},
		"update: too many keys": {update(func(tx *replkv.Tx) error {
			for i := range 6 {
				if err := tx.Set(fmt.Sprint(i), nil); err != nil {
					return err
				}
			}
			return nil
		}), replkv.ErrTooLarge},
		"update: after its end": {func() error {
			if _, err := db.Update(ctx, func(tx *replkv.Tx) error { kept = tx; return nil }); err != nil {
				t.Error(err)
			}
			_, err := kept.Get("a")
			return errors.Join(err, kept.Set("a", nil))
		}, replkv.ErrInvalidArgument},
		"update: ended": {func() error {
			ctx, cancel := context.WithCancel(ctx)
			_, err := db.Update(ctx, func(tx *replkv.Tx) error { cancel(); return tx.Set("a", nil) })
			return err
		}, context.Canceled},
		"view at a revision": {func() error {
			return db.View(ctx, func(*replkv.ReadTx) error { return nil }, replkv.AtRevision(1))
		}, replkv.ErrInvalidArgument},
	} {
		if err := f.do(); !errors.Is(err, f.want) {
			t.Errorf("%s: %v, want %v", name, err, f.want)
		} else if e, ok := errors.AsType[*replkv.Error](err); ok && e.Outcome != replkv.OutcomeNotDone {
			t.Errorf("%s: outcome %v", name, e.Outcome)
		}
	}
	func() {
		defer func() {
			if recover() != mine {
				t.Error("the panic did not come through")
			}
		}()
		db.Update(ctx, func(tx *replkv.Tx) error { kept = tx; tx.Set("a", nil); panic(mine) })
	}()
	if got, err := db.Revision(ctx); err != nil || got != rev {
		t.Errorf("revision %d, was %d, %v", got, rev, err)
	}
}

// TestTxnTooOld: a View does not keep its revision open for ever, and Close does not
// wait for one.
func TestTxnTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 1)
		get := func(tx *replkv.ReadTx) error { _, err := tx.Get("k"); return err }
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.DB(0).View(ctx, func(tx *replkv.ReadTx) error {
			if err := get(tx); !errors.Is(err, replkv.ErrNotFound) {
				t.Error(err)
			}
			time.Sleep(11 * time.Second)
			return get(tx)
		}); !errors.Is(err, replkv.ErrTxnTooOld) {
			t.Errorf("after 11 s: %v", err)
		}
		if err := c.DB(0).View(ctx, func(tx *replkv.ReadTx) error {
			c.Stop(0)
			return get(tx)
		}); !errors.Is(err, replkv.ErrClosed) {
			t.Errorf("on a closed store: %v", err)
		}
		c.Restart(0)
	})
}
