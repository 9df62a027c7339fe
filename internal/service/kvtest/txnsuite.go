package kvtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/replkv/replkv/kv"
)

func txn(t *testing.T, s kv.KV, txn kv.Txn) kv.TxnResult {
	t.Helper()
	res, err := s.Txn(t.Context(), txn)
	if err != nil {
		t.Fatalf("Txn: %v", err)
	}
	return res
}

func transactions(t *testing.T, s kv.KV) {
	first := set(t, s, "a\x00", "1")
	put := kv.SetOp("a\x00", []byte("2"))
	put.ReturnPrev = true
	remove := kv.DeleteOp(kv.Prefix("d"))
	remove.ReturnPrev = true
	count := kv.Op{Kind: kv.OpGet, Range: kv.All(), CountOnly: true}
	last := kv.Op{Kind: kv.OpGet, Range: kv.All(), Limit: 1, Reverse: true, KeysOnly: true}
	set(t, s, "d1", "x")
	before := set(t, s, "d2", "")
	res := txn(t, s, kv.Txn{
		If: []kv.Compare{kv.ValueIs("a\x00", []byte("1")), kv.RevisionIs("a\x00", first), kv.Absent("b"), kv.Exists("d1"),
			kv.Unchanged(kv.Prefix("d"), before), {Range: kv.Prefix("d"), Target: kv.TargetVersion, Is: kv.Less, Number: 2}},
		Then: []kv.Op{put, remove, kv.SetOp("b", nil), count, last, kv.GetOp(kv.All()),
			kv.TxnOp(kv.Txn{If: []kv.Compare{kv.Exists("d1")}, Else: []kv.Op{kv.GetOp(kv.Key("b")), kv.SetOp("c", nil)}})},
		Else: []kv.Op{kv.DeleteOp(kv.All())},
	})
	if !res.Succeeded || res.Revision != before+1 || len(res.Results) != 7 {
		t.Fatalf("got %+v", res)
	}
	r := res.Results
	if it := r[0].Items; len(it) != 1 || string(it[0].Value) != "1" || it[0].ModRevision != first || it[0].Version != 1 {
		t.Errorf("before the put: %+v", it)
	}
	if it := r[1].Items; r[1].Count != 2 || len(it) != 2 || it[0].Key != "d1" || it[1].Value == nil {
		t.Errorf("deleted: %+v", r[1])
	}
	if r[3].Count != 2 || len(r[3].Items) != 0 {
		t.Errorf("counted: %+v", r[3])
	}
	if it := r[4].Items; len(it) != 1 || it[0].Key != "b" || it[0].Value != nil || !r[4].More {
		t.Errorf("the last: %+v", r[4])
	}
	if it := r[5].Items; len(it) != 2 || it[0].Version != 2 || it[0].ModRevision != res.Revision || string(it[0].Value) != "2" || it[1].Value == nil || r[5].More {
		t.Errorf("found: %+v", it)
	}
	if in := r[6].Txn; in == nil || in.Succeeded || len(in.Results) != 2 || len(in.Results[0].Items) != 1 {
		t.Errorf("within: %+v", in)
	}
	for _, key := range []string{"a\x00", "b", "c"} {
		if it, err := s.Get(t.Context(), key); err != nil || it.ModRevision != res.Revision {
			t.Errorf("Get %q: %+v, %v", key, it, err)
		}
	}
	res = txn(t, s, kv.Txn{If: []kv.Compare{kv.Unchanged(kv.Prefix("d"), before)}, Then: []kv.Op{kv.SetOp("z", nil)}, Else: []kv.Op{kv.GetOp(kv.Key("z"))}})
	if res.Succeeded || len(res.Results) != 1 || len(res.Results[0].Items) != 0 || res.Revision != before+1 {
		t.Errorf("Else: %+v", res)
	}
	if res = txn(t, s, kv.Txn{}); !res.Succeeded || len(res.Results) != 0 || res.Revision != before+1 {
		t.Errorf("nothing: %+v", res)
	}
}

func txnValidation(t *testing.T, s kv.KV) {
	deep := kv.Txn{}
	for range kv.MaxTxnDepth {
		deep = kv.Txn{Then: []kv.Op{kv.TxnOp(deep)}}
	}
	many := kv.Txn{}
	for i := range MaxTxnOps + 1 {
		many.Then = append(many.Then, kv.GetOp(kv.Key(fmt.Sprint(i))))
	}
	ok := kv.SetOp("a", nil)
	for name, c := range map[string]struct {
		txn  kv.Txn
		want error
	}{
		"too deep":       {deep, kv.ErrInvalidArgument},
		"too many":       {many, kv.ErrTooLarge},
		"twice":          {kv.Txn{Then: []kv.Op{ok, ok}}, kv.ErrInvalidArgument},
		"zero range":     {kv.Txn{Then: []kv.Op{ok, kv.GetOp(kv.Range{})}}, kv.ErrInvalidArgument},
		"no operation":   {kv.Txn{Then: []kv.Op{ok, {}}}, kv.ErrInvalidArgument},
		"empty key":      {kv.Txn{Else: []kv.Op{ok, kv.SetOp("", nil)}}, kv.ErrInvalidArgument},
		"unknown target": {kv.Txn{If: []kv.Compare{{Range: kv.All(), Target: 77, Is: kv.Equal}}, Then: []kv.Op{ok}}, kv.ErrInvalidArgument},
		"zero compare":   {kv.Txn{If: []kv.Compare{{}}, Then: []kv.Op{ok}}, kv.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Txn(t.Context(), c.txn)
			want(t, err, c.want)
		})
	}
	if rev, err := s.Revision(t.Context()); err != nil || rev != 1 {
		t.Errorf("revision %d, %v", rev, err)
	}
}

func updates(t *testing.T, s kv.KV) {
	ctx := t.Context()
	set(t, s, "n", "0")
	runs := 0
	rev, err := s.Update(ctx, func(tx *kv.Tx) error {
		runs++
		it, err := tx.Get("n")
		if err != nil {
			return err
		}
		if _, err := tx.Get("absent"); !errors.Is(err, kv.ErrNotFound) {
			return fmt.Errorf("absent: %w", err)
		}
		if runs == 1 {
			set(t, s, "n", "1") // somebody else
		}
		return tx.Set("n", append(it.Value, '!'))
	})
	if it, getErr := s.Get(ctx, "n"); err != nil || getErr != nil || string(it.Value) != "1!" || it.ModRevision != rev || runs != 2 {
		t.Errorf("after a conflict: %+v, revision %d, %v, %v, %d runs", it, rev, err, getErr, runs)
	}
	mine := errors.New("mine")
	if _, err := s.Update(ctx, func(tx *kv.Tx) error { return errors.Join(tx.Set("n", nil), mine) }); !errors.Is(err, mine) {
		t.Errorf("fn's error: %v", err)
	}
	if got, err := s.Update(ctx, func(tx *kv.Tx) error { _, err := tx.Get("n"); return err }); err != nil || got != rev {
		t.Errorf("read only: revision %d, %v; want %d", got, err, rev)
	}
	set(t, s, "o", "")
	if _, err := s.Update(ctx, func(tx *kv.Tx) error {
		if err := tx.Delete("o"); err != nil {
			return err
		}
		var keys []string
		for it, err := range tx.Scan(kv.All(), kv.Limit(math.MaxInt)) {
			if err != nil {
				return err
			}
			keys = append(keys, it.Key)
		}
		if !slices.Equal(keys, []string{"n"}) {
			t.Errorf("beside a deletion: %q", keys)
		}
		return nil
	}); err != nil {
		t.Errorf("a Scan with the largest limit: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	if _, err := s.Update(ctx, func(tx *kv.Tx) error { cancel(); return tx.Set("n", nil) }); !errors.Is(err, context.Canceled) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("ended: %v (%v)", err, kv.OutcomeOf(err))
	}
}

func views(t *testing.T, s kv.KV) {
	ctx := t.Context()
	for i := range 5 {
		set(t, s, fmt.Sprint("k", i), "old")
	}
	var keys []string
	err := s.View(ctx, func(tx *kv.ReadTx) error {
		set(t, s, "k1", "new")
		set(t, s, "k9", "new")
		if it, err := tx.Get("k1"); err != nil || string(it.Value) != "old" {
			t.Errorf("Get of what changed since: %+v, %v", it, err)
		}
		for it, err := range tx.Scan(kv.Prefix("k"), kv.Limit(4), kv.Reverse()) {
			if err != nil {
				return err
			}
			keys = append(keys, it.Key+string(it.Value))
		}
		return nil
	})
	if got := strings.Join(keys, " "); err != nil || got != "k4old k3old k2old k1old" {
		t.Errorf("%s, %v", got, err)
	}
}

func getMany(t *testing.T, s kv.KV) {
	set(t, s, "a", "1")
	set(t, s, "b\x00", "")
	got, err := s.GetMany(t.Context(), "a", "absent", "b\x00", "a")
	if err != nil || len(got) != 2 || string(got["a"].Value) != "1" || got["b\x00"].Key != "b\x00" || got["b\x00"].Value == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.GetMany(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
	_, err = s.GetMany(t.Context(), "a", "")
	want(t, err, kv.ErrInvalidArgument)
	var keys []string
	for i := range 1500 {
		keys = append(keys, fmt.Sprint("key", i))
	}
	set(t, s, "key1499", "last")
	if got, err := s.GetMany(t.Context(), keys...); err != nil || len(got) != 1 || string(got["key1499"].Value) != "last" {
		t.Errorf("of many: %d, %v", len(got), err)
	}
}
