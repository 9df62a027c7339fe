package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/concurrency"
)

// leases are granted, kept alive, revoked, and left to expire. A lease, and the key
// on it, lives at least its TTL after the call of the last keep-alive that succeeded,
// whoever dies meanwhile; and what is not kept alive goes away in the end.
type leases struct{ longest time.Duration }

const (
	leaseClients = 2
	leasePrefix  = "lease/"
)

func (l *leases) begin(context.Context, *run) error { return nil }
func (l *leases) check(*run)                        {}

func (l *leases) clients(r *run) (out []func(context.Context)) {
	// What the log is told of a lease matters above 10 s only.
	l.longest = time.Second * pick[time.Duration](r.cfg.random(streamLeases), 8, 8, 25)
	for range leaseClients {
		h := &holder{client: r.newCaller()}
		out = append(out, func(ctx context.Context) {
			for ctx.Err() == nil {
				h.ttl = time.Second + time.Duration(h.rng.Int64N(int64(l.longest-time.Second)))
				h.hold(ctx)
				h.rest(ctx)
			}
		})
	}
	return out
}

// settle waits for the end of all leases. A new leader may have given each its whole
// TTL again.
func (l *leases) settle(ctx context.Context, r *run) {
	end := time.Now().Add(2*l.longest + 10*r.plan.election)
	for {
		left, err := keys(ctx, r, leasePrefix)
		switch {
		case err != nil:
			r.fail("looking for keys of leases: %v", err)
			return
		case len(left) == 0:
			return
		case time.Now().After(end):
			r.fail("keys of leases that nobody keeps alive are left: %v", left)
			return
		}
		pause(ctx, 500*time.Millisecond)
	}
}

// keys reads the keys of a prefix from the first member that is up.
func keys(ctx context.Context, r *run, prefix string) (out []string, err error) {
	for it, err := range r.c.DB(r.c.Up()[0]).Scan(ctx, replkv.Prefix(prefix), replkv.KeysOnly()) {
		if err != nil {
			return nil, err
		}
		out = append(out, it.Key)
	}
	return out, nil
}

// holder has one lease after the other.
type holder struct {
	*client
	n   int
	ttl time.Duration

	id      replkv.LeaseID
	key     string
	written bool
	renewed time.Time // the call of the last grant or keep-alive that succeeded
}

// hold is the life of a lease.
func (h *holder) hold(ctx context.Context) {
	h.n++
	h.key, h.written = fmt.Sprintf("%s%d/%d", leasePrefix, h.number, h.n), false
	called := time.Now()
	if err := h.ask(ctx, func(ctx context.Context, db concurrency.Store) (err error) {
		h.id, err = db.Grant(ctx, h.ttl)
		return err
	}); err != nil {
		return
	}
	h.renewed = called
	op := &Op{Kind: "set with lease", Key: h.key, Puts: map[string]string{h.key: h.key}}
	err := h.do(ctx, op, func(ctx context.Context, db concurrency.Store) (err error) {
		op.Revision, err = db.Set(ctx, h.key, []byte(h.key), replkv.WithLease(h.id))
		return err
	})
	h.written = err == nil
	if !h.lives(err) {
		return
	}
	for range h.rng.IntN(8) {
		pause(ctx, time.Duration(h.rng.Int64N(int64(h.ttl*3/4))))
		if !h.look(ctx) || !h.renew(ctx) {
			return
		}
	}
	if h.rng.IntN(2) == 0 {
		h.ask(ctx, func(ctx context.Context, db concurrency.Store) error { return db.Revoke(ctx, h.id) })
		return
	}
	pause(ctx, time.Until(h.renewed.Add(h.ttl))-time.Duration(h.rng.IntN(400))*time.Millisecond)
	h.look(ctx) // shortly before its end
}

// ask calls a member; what it answers tells of no key.
func (h *holder) ask(ctx context.Context, call func(context.Context, concurrency.Store) error) error {
	db, _ := h.store()
	ctx, cancel := context.WithTimeout(ctx, h.patience())
	defer cancel()
	err := call(ctx, db)
	h.named(ctx, "of a lease", err)
	if err == nil {
		h.r.count(countLeaseCalls)
	} else if !told(err) {
		h.move()
	}
	return err
}

// lives looks at an answer: a lease that is gone must have had its time.
func (h *holder) lives(err error) bool {
	if !errors.Is(err, replkv.ErrLeaseNotFound) {
		return true
	}
	h.over("the lease")
	return false
}

// over is called when something of the lease is gone.
func (h *holder) over(what string) {
	if early := time.Until(h.renewed.Add(h.ttl)); early > 0 {
		h.r.fail("%s of %s is gone %v before its time, it was last kept alive at %v", what, h.key, early, h.renewed.Sub(h.r.log.began))
	}
	h.r.count(countExpired)
}

func (h *holder) renew(ctx context.Context) bool {
	called := time.Now()
	err := h.ask(ctx, func(ctx context.Context, db concurrency.Store) error {
		_, err := db.KeepAliveOnce(ctx, h.id)
		return err
	})
	if err == nil {
		h.renewed = called
		h.r.count(countKept)
	}
	return h.lives(err)
}

// look reads the key.
func (h *holder) look(ctx context.Context) bool {
	if !h.written {
		return true
	}
	op := &Op{Kind: "get with lease", Key: h.key}
	err := h.do(ctx, op, func(ctx context.Context, db concurrency.Store) error {
		item, err := db.Get(ctx, h.key)
		if errors.Is(err, replkv.ErrNotFound) {
			err = nil
		}
		op.Read = map[string]replkv.Item{h.key: item}
		return err
	})
	if err == nil && op.Read[h.key].ModRevision == 0 {
		h.over("the key")
		return false
	}
	return true
}
