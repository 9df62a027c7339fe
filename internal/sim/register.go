package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// registers are a few hot keys, read, written, deleted and written on condition.
// Values are unique.
type registers struct{}

const (
	registerKeys    = 6
	registerClients = 5
)

const (
	kindGet    = "get"
	kindSet    = "set"
	kindDelete = "delete"
	kindSetIf  = "set if"
	kindDelIf  = "delete if"
	kindView   = "view"
	kindUpdate = "update"
	kindScan   = "scan"
	kindTxn    = "txn"
	kindLocal  = "local get"
)

// identity tells a write from all others, by what it writes to a key; "" if it cannot
// be told.
func identity(key, value string) string {
	switch {
	case strings.HasPrefix(key, "list/"):
		_, value = cutLast(value)
	case key == resource: // each token writes once
	case !strings.HasPrefix(key, "register/") && !strings.HasPrefix(key, setPrefix) && !strings.HasPrefix(key, "receipt/") && !strings.HasPrefix(key, leasePrefix):
		return ""
	}
	return key + "=" + value
}

func cutLast(s string) (before, last string) {
	i := strings.LastIndex(s, " ")
	return s[:max(i, 0)], s[i+1:]
}

func (registers) begin(context.Context, *run) error { return nil }
func (registers) settle(context.Context, *run)      {}

func (registers) clients(r *run) (out []func(context.Context)) {
	for range registerClients {
		out = append(out, (&registerClient{client: r.newCaller(), seen: map[string]replkv.Revision{}}).run)
	}
	return out
}

type registerClient struct {
	*client
	seen   map[string]replkv.Revision // ModRevision of each key as this client saw it last
	writes int
}

func (c *registerClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.once(ctx, fmt.Sprintf("register/%d", c.rng.IntN(registerKeys)))
		c.rest(ctx)
	}
}

func (c *registerClient) value() string {
	c.writes++
	return fmt.Sprintf("%d.%d.%s", c.number, c.writes, strings.Repeat("x", c.rng.IntN(300)))
}

func (c *registerClient) once(ctx context.Context, key string) {
	op := &Op{Key: key}
	switch n := c.rng.IntN(20); {
	case n < 6:
		c.get(ctx, op)
	case n < 12:
		op.Kind, op.Puts = kindSet, map[string]string{key: c.value()}
		c.set(ctx, op)
	case n < 16:
		op.Kind, op.Puts, op.Conditional, op.If = kindSetIf, map[string]string{key: c.value()}, true, c.seen[key]
		c.set(ctx, op, replkv.IfRevision(op.If))
	case n < 17:
		op.Kind, op.Dels = kindDelete, []string{key}
		c.delete(ctx, op)
	case n < 18:
		op.Kind, op.Dels, op.Conditional, op.If = kindDelIf, []string{key}, true, c.seen[key]
		c.delete(ctx, op, replkv.IfRevision(op.If))
	default:
		c.stale(ctx, op)
	}
}

func (c *registerClient) set(ctx context.Context, op *Op, opts ...replkv.SetOption) {
	err := c.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		op.Revision, err = db.Set(ctx, op.Key, []byte(op.Puts[op.Key]), opts...)
		return err
	})
	if err == nil {
		c.seen[op.Key] = op.Revision
	} else if errors.Is(err, replkv.ErrConflict) {
		c.r.count(countConflicts)
		c.get(ctx, &Op{Key: op.Key})
	}
}

func (c *registerClient) delete(ctx context.Context, op *Op, opts ...replkv.DeleteOption) {
	err := c.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
		res, err := db.Delete(ctx, op.Key, opts...)
		op.Deleted, op.Revision = res.Deleted, res.Revision
		if err == nil && res.Deleted == 0 {
			op.Read = map[string]replkv.Item{op.Key: {}}
		}
		return err
	})
	if err == nil {
		c.seen[op.Key] = 0
	}
}

func (c *registerClient) get(ctx context.Context, op *Op, opts ...replkv.GetOption) {
	if op.Kind == "" {
		op.Kind = kindGet
	}
	err := c.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
		item, err := db.Get(ctx, op.Key, opts...)
		if errors.Is(err, replkv.ErrNotFound) {
			item, err = replkv.Item{}, nil
		}
		op.Read = map[string]replkv.Item{op.Key: item}
		return err
	})
	if err == nil && !op.Stale {
		c.seen[op.Key] = op.Read[op.Key].ModRevision
	}
}

// stale are the reads that ask nobody.
func (c *registerClient) stale(ctx context.Context, op *Op) {
	op.Kind, op.Stale = kindLocal, true
	switch known := c.r.hist.ackedBefore(time.Now()); c.rng.IntN(4) {
	case 0:
		c.get(ctx, op, replkv.Local())
	case 1:
		op.Least = known
		if known > 0 {
			c.get(ctx, op, replkv.AtLeast(known))
		}
	case 2:
		age := time.Duration(c.rng.IntN(3000)) * time.Millisecond
		op.Least = c.r.hist.ackedBefore(time.Now().Add(-age))
		c.get(ctx, op, replkv.MaxStaleness(age))
	case 3:
		if known > 1 {
			op.Least = known - replkv.Revision(c.rng.IntN(int(min(known-1, 50))))
			op.Most = op.Least
			c.get(ctx, op, replkv.AtRevision(op.Least))
		}
	}
}
