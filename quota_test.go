package replkv

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// TestGrows: which operations the quota refuses.
func TestGrows(t *testing.T) {
	del, put := kv.DeleteOp(kv.Key("k")), kv.SetOp("k", nil)
	txn := func(then, otherwise []kv.Op) *command.Op {
		return &command.Op{Kind: command.Txn, Txn: &kv.Txn{Then: then, Else: otherwise}}
	}
	nested := func(op kv.Op) kv.Op { return kv.TxnOp(kv.Txn{Else: []kv.Op{kv.TxnOp(kv.Txn{Then: []kv.Op{op}})}}) }
	for name, c := range map[string]struct {
		op   *command.Op
		want bool
	}{
		"Set":                  {&command.Op{Kind: command.Set}, true},
		"Grant":                {&command.Op{Kind: command.Grant}, true},
		"put":                  {txn([]kv.Op{del, put}, nil), true},
		"put in Else":          {txn([]kv.Op{del}, []kv.Op{put}), true},
		"put far inside":       {txn([]kv.Op{del}, []kv.Op{nested(put)}), true},
		"empty Txn":            {txn(nil, nil), false},
		"Txn that deletes":     {txn([]kv.Op{del}, []kv.Op{nested(del)}), false},
		"Txn that reads":       {txn([]kv.Op{kv.GetOp(kv.All())}, nil), false},
		"Delete":               {&command.Op{Kind: command.Delete}, false},
		"DeleteRange":          {&command.Op{Kind: command.DeleteRange}, false},
		"Compact":              {&command.Op{Kind: command.Compact}, false},
		"Revoke":               {&command.Op{Kind: command.Revoke}, false},
		"Renew":                {&command.Op{Kind: command.Renew}, false},
		"OpenSession":          {&command.Op{Kind: command.OpenSession}, false},
		"Epoch":                {&command.Op{Kind: command.Epoch}, false},
		"Admit":                {&command.Op{Kind: command.Admit}, false},
		"Setting":              {&command.Op{Kind: command.Setting}, false},
		"what is yet to come":  {&command.Op{Kind: 200}, false},
		"Txn with only a test": {&command.Op{Kind: command.Txn, Txn: &kv.Txn{If: []kv.Compare{kv.Exists("k")}}}, false},
	} {
		if got := grows(c.op); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTheLeadersWord: it counts for three seconds, renewed or withdrawn by each answer.
func TestTheLeadersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quota{wake: make(chan struct{}, 1), born: time.Now()}
		at := func(after time.Duration, want bool) {
			t.Helper()
			time.Sleep(after)
			if q.hasWord() != want {
				t.Errorf("after %v: %v", time.Since(q.born), !want)
			}
		}
		at(0, false)
		q.hear(false)
		at(0, false)
		q.hear(true)
		at(0, true)
		at(2*time.Second, true)
		q.hear(true) // the channel is full: that blocks nobody
		at(quotaWord-1, true)
		at(1, false)
		q.hear(true)
		at(time.Second, true)
		q.hear(false)
		at(0, false)
	})
}

// TestQuotaHysteresis: it begins at the quota and ends below it.
func TestQuotaHysteresis(t *testing.T) {
	for _, c := range []struct {
		exceeded bool
		size     int64
		want     bool
	}{{false, 3199, false}, {false, 3200, true}, {true, 3100, true}, {true, 3099, false}, {false, 3150, false}, {true, 3150, true}} {
		if got := exceeds(c.size, 3200, c.exceeded); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestQuotaOfOne: a member without peers, and with a quota so large that only the
// test exceeds it.
func TestQuotaOfOne(t *testing.T) {
	ctx := t.Context()
	db, err := Open(Config{Dir: t.TempDir(), QuotaBytes: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := serviceBackend{db, new(atomic.Int64)}
	id, err := b.OpenSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	set := func(key string) batch.Write { return batch.Write{Op: "Set", Key: key} }
	batchOf := func(ws ...batch.Write) *batch.Batch {
		seq++
		return &batch.Batch{Session: id, Seq: seq, LowWater: seq - 1, Writes: ws}
	}
	again := func(old *batch.Batch) *batch.Batch { // as it comes from the network
		ws := append([]batch.Write(nil), old.Writes...)
		for i := range ws {
			ws[i].Refused = nil
		}
		return &batch.Batch{Session: old.Session, Seq: old.Seq, LowWater: old.LowWater, Writes: ws}
	}
	write := func(w *batch.Batch) []batch.Result {
		t.Helper()
		res, err := b.Write(ctx, w)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	// over runs call with the quota exceeded: the next look ends that, so again
	// until call says that it has met it.
	over := func(call func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; {
			db.quota.exceeded.Store(true)
			if call() {
				break
			}
			if time.Now().After(end) {
				t.Fatal("nothing is refused")
			}
		}
		db.quota.exceeded.Store(false)
	}

	over(func() bool {
		_, err := db.Set(ctx, "k", nil)
		return errors.Is(err, ErrQuota) && OutcomeOf(err) == OutcomeNotDone
	})
	if _, err := db.Set(ctx, "k", nil); err != nil {
		t.Error(err)
	}

	// What was done before is answered as it was.
	first := batchOf(set("a"))
	rev := write(first)[0].Revision
	over(func() bool {
		if res := write(again(first))[0]; res.Err != nil || res.Revision != rev {
			t.Fatalf("a retry of what was done: %+v", res)
		}
		_, err := db.Set(ctx, "b", nil)
		return errors.Is(err, ErrQuota)
	})

	// What was refused stays refused, alone: the others of its batch are done.
	var refused *batch.Batch
	n := 0
	over(func() bool {
		n++
		refused = batchOf(set(fmt.Sprintf("c%d", n)), batch.Write{Op: "Delete", Key: "a"}, batch.Write{Op: "Grant", Lease: LeaseID(n), TTL: time.Hour},
			batch.Write{Op: "Txn", Txn: kv.Txn{Then: []kv.Op{kv.SetOp("d", nil)}}})
		res := write(refused)
		if res[1].Err != nil {
			t.Fatalf("Delete: %v", res[1].Err)
		}
		return errors.Is(res[0].Err, ErrQuota) && errors.Is(res[2].Err, ErrQuota) && errors.Is(res[3].Err, ErrQuota)
	})
	for i, res := range write(again(refused)) {
		if i != 1 && (!errors.Is(res.Err, ErrQuota) || OutcomeOf(res.Err) != OutcomeNotDone) || i == 1 && res.Err != nil {
			t.Errorf("operation %d, tried again when there is room: %v", i, res.Err)
		}
	}
	if _, err := db.Get(ctx, fmt.Sprintf("c%d", n)); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was refused: %v", err)
	}
	for _, bytes := range []int64{-1, 1, minQuotaBytes - 1} {
		if _, err := Open(Config{Dir: t.TempDir(), QuotaBytes: bytes}); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("QuotaBytes %d: %v", bytes, err)
		}
	}
}
