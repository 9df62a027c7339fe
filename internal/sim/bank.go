package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// bank moves money between accounts by Update and by Txn. At every revision all the
// money is there; each transfer leaves a receipt, so that those acknowledged are seen
// to be done, and those that were not done are not.
type bank struct{}

const (
	accounts    = 5
	money       = accounts * 100
	bankClients = 3
)

func account(i int) string { return fmt.Sprintf("account/%d", i) }

func number(it replkv.Item) int {
	n, _ := strconv.Atoi(string(it.Value))
	return n
}

func (b *bank) begin(ctx context.Context, r *run) error {
	op := &Op{Kind: kindUpdate, Puts: map[string]string{}}
	for i := range accounts {
		op.Puts[account(i)] = strconv.Itoa(money / accounts)
	}
	return r.note(op, func() (err error) {
		op.Revision, err = r.c.DB(0).Update(ctx, func(tx *replkv.Tx) (err error) {
			for key, value := range op.Puts {
				err = errors.Join(err, tx.Set(key, []byte(value)))
			}
			return err
		})
		return err
	})
}

func (b *bank) clients(r *run) (out []func(context.Context)) {
	for range bankClients {
		out = append(out, (&teller{client: r.newCaller()}).run)
	}
	return out
}

func (b *bank) settle(ctx context.Context, r *run) {
	w := &teller{client: r.newCaller()}
	for range 3 {
		w.look(ctx)
	}
}

// check counts the money at every revision at which all accounts are known: after one
// that nobody saw each may hold anything, until it is written again.
func (b *bank) check(r *run) {
	if r.past == nil {
		return
	}
	held := map[string]int{}
	for rev := replkv.Revision(2); rev <= r.past.final; rev++ {
		if len(r.past.events[rev]) == 0 {
			clear(held)
		}
		for _, e := range r.past.events[rev] {
			if strings.HasPrefix(e.Item.Key, "account/") {
				held[e.Item.Key] = number(e.Item)
			}
		}
		sum := 0
		for _, n := range held {
			sum += n
		}
		if len(held) == accounts && sum != money {
			r.fail("at revision %d there are %d, not %d: %v", rev, sum, money, held)
		}
	}
}

// teller is one client of the bank.
type teller struct {
	*client
	made int
}

func (w *teller) run(ctx context.Context) {
	for ctx.Err() == nil {
		from, to, amount := w.rng.IntN(accounts), w.rng.IntN(accounts), 1+w.rng.IntN(30)
		switch {
		case w.rng.IntN(4) == 0 || from == to:
			w.look(ctx)
		case w.rng.IntN(2) == 0:
			w.update(ctx, account(from), account(to), amount)
		default:
			w.txn(ctx, account(from), account(to), amount)
		}
		w.rest(ctx)
	}
}

var errPoor = &replkv.Error{Op: "transfer", Outcome: replkv.OutcomeNotDone, Err: errors.New("not enough money")}

// transfer are the writes of one.
func (w *teller) transfer(from, to replkv.Item, amount int) map[string]string {
	return map[string]string{from.Key: strconv.Itoa(number(from) - amount), to.Key: strconv.Itoa(number(to) + amount),
		fmt.Sprintf("receipt/%d/%d", w.number, w.made): fmt.Sprint(amount)}
}

func (w *teller) update(ctx context.Context, from, to string, amount int) {
	w.made++
	op := &Op{Kind: kindUpdate}
	w.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		op.Revision, err = db.Update(ctx, func(tx *replkv.Tx) error {
			op.Puts = nil
			a, err := tx.Get(from)
			if err != nil {
				return err
			}
			b, err := tx.Get(to)
			if err != nil {
				return err
			}
			op.Read = map[string]replkv.Item{from: a, to: b}
			if number(a) < amount {
				return errPoor
			}
			op.Puts = w.transfer(a, b, amount)
			for key, value := range op.Puts {
				err = errors.Join(err, tx.Set(key, []byte(value)))
			}
			return err
		})
		return err
	})
}

// txn is the same by hand: read, then compare.
func (w *teller) txn(ctx context.Context, from, to string, amount int) {
	w.made++
	read := &Op{Kind: kindView}
	err := w.do(ctx, read, func(ctx context.Context, db concurrency.Store) error {
		return db.View(ctx, func(tx *replkv.ReadTx) error {
			read.Revision, read.Read = tx.Revision(), map[string]replkv.Item{}
			for _, key := range []string{from, to} {
				item, err := tx.Get(key)
				if err != nil {
					return err
				}
				read.Read[key] = item
			}
			return nil
		})
	})
	if err != nil || number(read.Read[from]) < amount {
		return
	}
	w.rest(ctx)
	a, b := read.Read[from], read.Read[to]
	op := &Op{Kind: kindTxn, Puts: w.transfer(a, b, amount), When: []replkv.Compare{replkv.ValueIs(from, a.Value), replkv.RevisionIs(to, b.ModRevision)}}
	t := replkv.Txn{If: op.When}
	for key, value := range op.Puts {
		t.Then = append(t.Then, replkv.SetOp(key, []byte(value)))
	}
	w.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
		res, err := db.Txn(ctx, t)
		op.Revision = res.Revision
		if err == nil && !res.Succeeded {
			w.r.count(countConflicts)
			return &replkv.Error{Op: "transfer", Outcome: replkv.OutcomeNotDone, Err: replkv.ErrConflict}
		}
		return err
	})
}

// look counts the money.
func (w *teller) look(ctx context.Context) {
	sum := func(read map[string]replkv.Item) (n int) {
		for _, it := range read {
			n += number(it)
		}
		return n
	}
	op := &Op{Kind: kindUpdate}
	err := w.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		if w.rng.IntN(2) == 0 {
			op.Kind = kindView
			return db.View(ctx, func(tx *replkv.ReadTx) error {
				op.Revision, op.Read = tx.Revision(), map[string]replkv.Item{}
				for item, err := range tx.Scan(replkv.Prefix("account/")) {
					if err != nil {
						return err
					}
					op.Read[item.Key] = item
				}
				return nil
			})
		}
		op.Revision, err = db.Update(ctx, func(tx *replkv.Tx) error {
			op.Read = map[string]replkv.Item{}
			for i := range accounts {
				item, err := tx.Get(account(i))
				if err != nil {
					return err
				}
				op.Read[item.Key] = item
			}
			return nil
		})
		return err
	})
	if err == nil && sum(op.Read) != money {
		w.r.fail("a teller counts %d, there are %d: %v", sum(op.Read), money, op)
	}
}
