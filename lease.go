package replkv

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/keepalive"
	"github.com/replkv/replkv/internal/lease"
	"github.com/replkv/replkv/kv"
)

var _ kv.Lessor = (*DB)(nil)

// Grant makes a lease that lives for ttl, and as long as it is kept alive. See
// kv.Lessor.
func (db *DB) Grant(ctx context.Context, ttl time.Duration, opts ...GrantOption) (LeaseID, error) {
	var o kv.GrantOptions
	for _, opt := range opts {
		opt.ApplyGrant(&o)
	}
	id, err := o.ID, kv.ValidateLeaseTTL(ttl)
	if err == nil && id == 0 {
		id, err = randomLease()
	}
	if err == nil {
		err = id.Validate()
	}
	if err != nil {
		return 0, db.wrap("Grant", OutcomeNotDone, err)
	}
	op := grantOp(id, ttl)
	if _, err := db.write(ctx, "Grant", &op); err != nil {
		return 0, err
	}
	return id, nil
}

func grantOp(id LeaseID, ttl time.Duration) command.Op {
	return command.Op{Kind: command.Grant, Lease: uint64(id), TTL: millisUp(ttl)}
}

// millisUp rounds up: a lease lives at least as long as was asked.
func millisUp(d time.Duration) uint64 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return uint64(ms)
}

// randomLease draws an id that nobody has had, as good as certainly.
func randomLease() (LeaseID, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		if id := LeaseID(binary.BigEndian.Uint64(b[:]) & command.MaxLeaseID); id != 0 {
			return id, nil
		}
	}
}

// Revoke ends a lease, and deletes the keys that hang on it at one revision. See
// kv.Lessor.
func (db *DB) Revoke(ctx context.Context, id LeaseID) error {
	if err := id.Validate(); err != nil {
		return db.wrap("Revoke", OutcomeNotDone, err)
	}
	_, err := db.write(ctx, "Revoke", &command.Op{Kind: command.Revoke, Lease: uint64(id)})
	return err
}

// KeepAliveOnce gives a lease its full TTL again, and returns it. See kv.Lessor.
func (db *DB) KeepAliveOnce(ctx context.Context, id LeaseID) (time.Duration, error) {
	s, err := db.leaseState(ctx, "KeepAliveOnce", id, &db.keepAlives)
	return s.TTL, err
}

// KeepAlive keeps a lease alive until ctx ends, or the lease does
// (ErrLeaseNotFound). See kv.Lessor.
func (db *DB) KeepAlive(ctx context.Context, id LeaseID) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(db.ctx, func() { cancel(db.stopped()) })()
	return keepalive.Run(ctx, db.cfg.RequestTimeout, func(ctx context.Context) (time.Duration, error) {
		s, err := db.leaseState(ctx, "KeepAlive", id, &db.keepAlives)
		return s.TTL, err
	}, nil)
}

// TimeToLive tells of a lease. See kv.Lessor.
func (db *DB) TimeToLive(ctx context.Context, id LeaseID, opts ...LeaseOption) (LeaseInfo, error) {
	const name = "TimeToLive"
	var o kv.LeaseOptions
	for _, opt := range opts {
		opt.ApplyLease(&o)
	}
	s, err := db.leaseState(ctx, name, id, &db.leaseLooks)
	if err != nil {
		return LeaseInfo{}, err
	}
	info := LeaseInfo{ID: id, TTL: s.TTL, Remaining: s.Remaining}
	if !o.Keys {
		return info, nil
	}
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return LeaseInfo{}, db.callError(name, OutcomeNotDone, ctxError(ctx, err))
	}
	there := false
	if info.Keys, there, err = db.state.LeaseKeys(id); err != nil {
		return LeaseInfo{}, db.readError(name, err)
	}
	if !there {
		return LeaseInfo{}, db.wrap(name, OutcomeNotDone, ErrLeaseNotFound) // it has ended since
	}
	return info, nil
}

// Leases tells of all leases, in the order of their ids. See kv.Lessor.
func (db *DB) Leases(ctx context.Context) ([]LeaseInfo, error) {
	const name = "Leases"
	if err := db.check(ctx); err != nil {
		return nil, db.wrap(name, OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return nil, db.callError(name, OutcomeNotDone, ctxError(ctx, err))
	}
	var ids []LeaseID
	for _, l := range db.state.Leases() {
		ids = append(ids, l.ID)
	}
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	var out []LeaseInfo
	for len(ids) > 0 {
		n := min(len(ids), maxLeaseIDs)
		states, err := db.askLeases(ctx, false, ids[:n])
		if err != nil {
			return nil, db.callError(name, OutcomeNotDone, ctxError(ctx, err))
		}
		for i, s := range states {
			if s.TTL > 0 { // else it has ended since
				out = append(out, LeaseInfo{ID: ids[i], TTL: s.TTL, Remaining: s.Remaining})
			}
		}
		ids = ids[n:]
	}
	return out, nil
}

// leaseState asks the leader about one lease, together with other callers.
func (db *DB) leaseState(ctx context.Context, name string, id LeaseID, calls *leaseCalls) (lease.State, error) {
	err := id.Validate()
	if err == nil {
		err = db.check(ctx)
	}
	if err != nil {
		return lease.State{}, db.wrap(name, OutcomeNotDone, ctxError(ctx, err))
	}
	s, err := calls.do(ctx, db.limit(ctx), id)
	switch {
	case err == nil && s.TTL == 0:
		return s, db.wrap(name, OutcomeNotDone, fmt.Errorf("%w: %d", ErrLeaseNotFound, id))
	case err == nil:
		return s, nil
	case calls.keepAlive && !errors.Is(err, ErrOverloaded):
		return s, db.callError(name, OutcomeUnknown, ctxError(ctx, err))
	}
	return s, db.callError(name, OutcomeNotDone, ctxError(ctx, err))
}
