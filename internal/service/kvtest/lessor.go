package kvtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/replkv/replkv/internal/keepalive"
	"github.com/replkv/replkv/kv"
)

// MaxLeaseKeys is how many keys may hang on a lease of a Fake.
const MaxLeaseKeys = 10_000

// fakeLease is a lease of a Fake. Which keys hang on it, their items say.
type fakeLease struct {
	ttl      time.Duration
	deadline time.Time
}

// expireLocked ends the leases whose time is over.
func (f *Fake) expireLocked() {
	for _, id := range slices.Sorted(maps.Keys(f.leases)) {
		if !time.Now().Before(f.leases[id].deadline) {
			f.revokeLocked(id)
		}
	}
}

func (f *Fake) revokeLocked(id kv.LeaseID) {
	f.remove(f.attached(id), false)
	delete(f.leases, id)
	delete(f.data.Leases, id)
}

func (f *Fake) attached(id kv.LeaseID) []kv.Item {
	return slices.DeleteFunc(f.in(kv.All(), f.data.Rev), func(it kv.Item) bool { return it.Lease != id })
}

// mayAttach says why a key cannot hang on a lease.
func (f *Fake) mayAttach(key string, id kv.LeaseID) error {
	if id == 0 {
		return nil
	}
	if err := id.Validate(); err != nil {
		return err
	}
	if f.leases[id] == nil {
		return kv.ErrLeaseNotFound
	}
	on := f.attached(id)
	if len(on) >= MaxLeaseKeys && !slices.ContainsFunc(on, func(it kv.Item) bool { return it.Key == key }) {
		return fmt.Errorf("%w: %d keys hang on the lease", kv.ErrTooLarge, len(on))
	}
	return nil
}

// Grant implements kv.Lessor.
func (f *Fake) Grant(ctx context.Context, ttl time.Duration, opts ...kv.GrantOption) (kv.LeaseID, error) {
	var o kv.GrantOptions
	for _, opt := range opts {
		opt.ApplyGrant(&o)
	}
	err := f.begin(ctx, "Grant")
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	id := o.ID
	for next := kv.LeaseID(1); id == 0; next++ {
		if f.leases[next] == nil {
			id = next
		}
	}
	if err = kv.ValidateLeaseTTL(ttl); err == nil {
		err = id.Validate()
	}
	if err == nil && f.leases[id] != nil {
		err = kv.ErrConflict
	}
	if err != nil {
		return 0, fail("Grant", err)
	}
	ttl = (ttl + time.Millisecond - 1).Truncate(time.Millisecond)
	f.leases[id], f.data.Leases[id] = &fakeLease{ttl, time.Now().Add(ttl)}, true
	return id, nil
}

// lease begins a call about a lease.
func (f *Fake) lease(ctx context.Context, op string, id kv.LeaseID) (*fakeLease, error) {
	err := f.begin(ctx, op)
	if err == nil {
		err = fail(op, id.Validate())
	}
	l := f.leases[id]
	if err == nil && l == nil {
		err = fail(op, kv.ErrLeaseNotFound)
	}
	return l, err
}

// Revoke implements kv.Lessor.
func (f *Fake) Revoke(ctx context.Context, id kv.LeaseID) error {
	_, err := f.lease(ctx, "Revoke", id)
	defer f.mu.Unlock()
	if err == nil {
		f.revokeLocked(id)
	}
	return err
}

// KeepAliveOnce implements kv.Lessor.
func (f *Fake) KeepAliveOnce(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	l, err := f.lease(ctx, "KeepAliveOnce", id)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	l.deadline = time.Now().Add(l.ttl)
	return l.ttl, nil
}

// KeepAlive implements kv.Lessor.
func (f *Fake) KeepAlive(ctx context.Context, id kv.LeaseID) error {
	return keepalive.Run(ctx, time.Minute, func(ctx context.Context) (time.Duration, error) {
		return f.KeepAliveOnce(ctx, id)
	}, nil)
}

// TimeToLive implements kv.Lessor.
func (f *Fake) TimeToLive(ctx context.Context, id kv.LeaseID, opts ...kv.LeaseOption) (kv.LeaseInfo, error) {
	var o kv.LeaseOptions
	for _, opt := range opts {
		opt.ApplyLease(&o)
	}
	l, err := f.lease(ctx, "TimeToLive", id)
	defer f.mu.Unlock()
	if err != nil {
		return kv.LeaseInfo{}, err
	}
	info := l.info(id)
	if o.Keys {
		for _, it := range f.attached(id) {
			info.Keys = append(info.Keys, it.Key)
		}
	}
	return info, nil
}

func (l *fakeLease) info(id kv.LeaseID) kv.LeaseInfo {
	return kv.LeaseInfo{ID: id, TTL: l.ttl, Remaining: max(0, time.Until(l.deadline))}
}

// Leases implements kv.Lessor.
func (f *Fake) Leases(ctx context.Context) ([]kv.LeaseInfo, error) {
	err := f.begin(ctx, "Leases")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out []kv.LeaseInfo
	for id, l := range f.leases {
		out = append(out, l.info(id))
	}
	slices.SortFunc(out, func(a, b kv.LeaseInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
