package sim

import (
	"context"
	"fmt"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// sets are keys that are only created, some of them by several clients at once, and
// scanned; now and then all are deleted.
type sets struct{}

const (
	setClients = 3
	setPrefix  = "set/"
)

func (sets) begin(context.Context, *run) error { return nil }
func (sets) check(*run)                        {}

func (sets) clients(r *run) (out []func(context.Context)) {
	for range setClients {
		c := r.newCaller()
		out = append(out, func(ctx context.Context) {
			for n := 0; ctx.Err() == nil; n++ {
				c.set(ctx, n)
				c.rest(ctx)
			}
		})
	}
	return out
}

// settle looks at what is left, on every member.
func (sets) settle(ctx context.Context, r *run) {
	c := r.newCaller()
	for i := range r.c.Len() {
		c.member = i
		c.scan(ctx)
	}
}

func (c *client) set(ctx context.Context, n int) {
	switch k := c.rng.IntN(30); {
	case k < 10:
		c.create(ctx, fmt.Sprintf("%s%d/%d", setPrefix, c.number, n), n)
	case k < 18: // of all clients
		c.create(ctx, fmt.Sprintf("%sshared/%d", setPrefix, c.rng.IntN(20)), n)
	case k < 29:
		c.scan(ctx)
	default:
		op := &Op{Kind: "delete range", Under: setPrefix}
		c.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
			res, err := db.DeleteRange(ctx, replkv.Prefix(setPrefix), replkv.ReturnPrev())
			op.Deleted, op.Revision = res.Deleted, res.Revision
			for _, it := range res.Prev {
				op.Dels = append(op.Dels, it.Key)
			}
			if err == nil && res.Deleted == 0 { // it has found nothing
				op.Prefix, op.Read = setPrefix, map[string]replkv.Item{}
			}
			return err
		})
	}
}

func (c *client) create(ctx context.Context, key string, n int) {
	op := &Op{Kind: "create", Key: key, Puts: map[string]string{key: fmt.Sprintf("%d.%d", c.number, n)}, Conditional: true}
	c.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		op.Revision, err = db.Set(ctx, key, []byte(op.Puts[key]), replkv.IfAbsent())
		return err
	})
}

// scan reads all, in either direction: the whole set at one revision.
func (c *client) scan(ctx context.Context) {
	op := &Op{Kind: kindScan, Prefix: setPrefix}
	var opts []replkv.ScanOption
	reverse := c.rng.IntN(3) == 0
	if reverse {
		opts = append(opts, replkv.Reverse())
	}
	c.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
		op.Read = map[string]replkv.Item{}
		last := ""
		for item, err := range db.Scan(ctx, replkv.Prefix(setPrefix), opts...) {
			if err != nil {
				return err
			}
			if last != "" && (item.Key > last) == reverse {
				c.r.fail("a scan yields %s after %s: %v", item.Key, last, op)
			}
			op.Read[item.Key], last = item, item.Key
		}
		return nil
	})
}
