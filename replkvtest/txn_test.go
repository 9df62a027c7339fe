package replkvtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

func number(b []byte) int { return int(binary.BigEndian.Uint64(b)) }

func bytesOf(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

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

// TestBank moves money between accounts by Update and by Txn, on all members, under
// crashes, partitions and one-way cuts, in virtual time. Every View, at one revision,
// and a read-only Update must see all the money; each transfer leaves a receipt, so
// that those acknowledged are there, and those that were not done are not.
func TestBank(t *testing.T) {
	t.Parallel()
	seeds, length := 2, 15*time.Second
	if testing.Short() {
		seeds, length = 1, 8*time.Second
	}
	if n, err := strconv.Atoi(os.Getenv("REPLKV_FAULT_SEEDS")); err == nil {
		seeds = n // for a long run
	}
	fresh := rand.Uint64N(1 << 32)
	for i := range seeds {
		seed := uint64(i)
		if i >= seeds/2 {
			seed = fresh + uint64(i)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { bank(t, seed, length) })
		})
	}
}

const (
	accounts = 5
	money    = accounts * 100
)

func account(i int) string { return fmt.Sprintf("account/%d", i) }

// teller is one client of the bank.
type teller struct {
	t     *testing.T
	name  string
	rng   *rand.Rand
	db    func(*rand.Rand) *replkv.DB
	made  int
	fates map[string]replkv.Outcome // of each receipt
	views *atomic.Int64
}

func bank(t *testing.T, seed uint64, d time.Duration) {
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		smallLogs(i, cfg)
		cfg.RequestTimeout = 3 * time.Second
	}))
	if _, err := c.DB(0).Update(t.Context(), func(tx *replkv.Tx) error {
		for i := range accounts {
			if err := tx.Set(account(i), bytesOf(money/accounts)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var mu sync.RWMutex // Restart replaces handles under the tellers' feet
	db := func(r *rand.Rand) *replkv.DB {
		mu.RLock()
		defer mu.RUnlock()
		return c.DB(r.IntN(3))
	}
	var views atomic.Int64
	var tellers []*teller
	var wg sync.WaitGroup
	for i := range 5 {
		w := &teller{t: t, name: fmt.Sprint(i), rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), db: db, fates: map[string]replkv.Outcome{}, views: &views}
		tellers = append(tellers, w)
		wg.Go(func() { w.work(ctx) })
	}
	nemesis(ctx, c, rand.New(rand.NewPCG(seed, 1)), &mu)
	wg.Wait()
	c.Heal()
	for i := range c.Len() {
		if c.members[i].down {
			c.Restart(i)
		}
	}
	c.WaitReady()
	done := 0
	for _, w := range tellers {
		done += w.settle(c.DB(0))
	}
	t.Logf("%d transfers, %d views", done, views.Load())
	if done < 30 || views.Load() < 30 {
		t.Error("too little happened to show anything")
	}
}

func (w *teller) work(ctx context.Context) {
	for ctx.Err() == nil {
		from, to, amount := w.rng.IntN(accounts), w.rng.IntN(accounts), 1+w.rng.IntN(30)
		call, cancel := context.WithTimeout(ctx, time.Duration(1+w.rng.IntN(3000))*time.Millisecond)
		switch {
		case w.rng.IntN(4) == 0:
			w.look(call)
		case from != to && w.rng.IntN(2) == 0:
			w.receipt(func(key string) error { return w.update(call, from, to, amount, key) })
		case from != to:
			w.receipt(func(key string) error { return w.txn(call, from, to, amount, key) })
		}
		cancel()
		pauseFor(ctx, time.Duration(w.rng.IntN(20))*time.Millisecond)
	}
}

var errPoor = errors.New("not enough money")

func (w *teller) receipt(transfer func(key string) error) {
	w.made++
	key := fmt.Sprintf("receipt/%s/%d", w.name, w.made)
	err := transfer(key)
	fate := replkv.OutcomeOf(err)
	if errors.Is(err, errPoor) {
		fate = replkv.OutcomeNotDone
	}
	w.fates[key] = fate
}

func (w *teller) update(ctx context.Context, from, to, amount int, receipt string) error {
	_, err := w.db(w.rng).Update(ctx, func(tx *replkv.Tx) error {
		a, err := tx.Get(account(from))
		if err != nil {
			return err
		}
		b, err := tx.Get(account(to))
		if err != nil {
			return err
		}
		if number(a.Value) < amount {
			return errPoor
		}
		return errors.Join(tx.Set(account(from), bytesOf(number(a.Value)-amount)), tx.Set(account(to), bytesOf(number(b.Value)+amount)),
			tx.Set(receipt, nil))
	})
	return err
}

// txn is the same by hand: read, then compare.
func (w *teller) txn(ctx context.Context, from, to, amount int, receipt string) error {
	db := w.db(w.rng)
	for {
		var was [2]replkv.Item
		for i, n := range []int{from, to} {
			item, err := db.Get(ctx, account(n))
			if err != nil {
				return &replkv.Error{Outcome: replkv.OutcomeNotDone, Err: err}
			}
			was[i] = item
		}
		if number(was[0].Value) < amount {
			return errPoor
		}
		res, err := db.Txn(ctx, replkv.Txn{
			If: []replkv.Compare{replkv.ValueIs(account(from), was[0].Value), replkv.RevisionIs(account(to), was[1].ModRevision)},
			Then: []replkv.Op{replkv.SetOp(account(from), bytesOf(number(was[0].Value)-amount)),
				replkv.SetOp(account(to), bytesOf(number(was[1].Value)+amount)), replkv.SetOp(receipt, nil)},
		})
		if err != nil || res.Succeeded {
			return err
		}
	}
}

// look counts the money.
func (w *teller) look(ctx context.Context) {
	sum := 0
	add := func(item replkv.Item, err error) error {
		if err == nil {
			sum += number(item.Value)
		}
		return err
	}
	var err error
	if w.rng.IntN(2) == 0 {
		err = w.db(w.rng).View(ctx, func(tx *replkv.ReadTx) error {
			for item, err := range tx.Scan(replkv.Prefix("account/")) {
				if err := add(item, err); err != nil {
					return err
				}
			}
			return nil
		})
	} else {
		_, err = w.db(w.rng).Update(ctx, func(tx *replkv.Tx) error {
			sum = 0
			for i := range accounts {
				if err := add(tx.Get(account(i))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return
	}
	w.views.Add(1)
	if sum != money {
		w.t.Errorf("a teller counts %d, there are %d", sum, money)
	}
}

// settle compares the receipts with what the teller was told.
func (w *teller) settle(db *replkv.DB) (done int) {
	for key, fate := range w.fates {
		_, err := db.Get(context.Background(), key)
		switch there := err == nil; {
		case err != nil && !errors.Is(err, replkv.ErrNotFound):
			w.t.Errorf("%s: %v", key, err)
		case fate == replkv.OutcomeDone && !there:
			w.t.Errorf("%s was acknowledged, and is not there", key)
		case fate == replkv.OutcomeNotDone && there:
			w.t.Errorf("%s was not done, and is there", key)
		case there:
			done++
		}
	}
	w.look(context.Background())
	return done
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
		"a long bound":      {then(set, replkv.GetOp(replkv.From("123456789012"))), replkv.ErrTooLarge},
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
