package kv

import (
	"context"
	"fmt"
	"time"
)

// Bounds of a lease's TTL.
const (
	MinLeaseTTL = time.Second
	MaxLeaseTTL = 9_000_000_000 * time.Second
)

// LeaseInfo tells of a lease.
type LeaseInfo struct {
	ID  LeaseID
	TTL time.Duration
	// Remaining is what is left of TTL, as the leader's clock says. 0: it has
	// expired, and is about to be revoked.
	Remaining time.Duration
	Keys      []string // with WithKeys: those that hang on it, in order
}

// Lessor grants leases; *replkv.DB and *client.Client have it. A lease is held by
// whoever keeps it alive; when it ends, by Revoke or because it has expired, the
// keys that hang on it (WithLease) are deleted, at one revision.
//
// A lease lives at least its TTL after the call of Grant, or of the last keep-alive
// that succeeded, and as a rule not much longer: it is a promise to its holder, and
// none to those who wait for its end. While nobody leads, nothing expires; a new
// leader gives each lease what was left when the log last said so, which it does for
// leases of more than 10 s in their second half, each tenth of the TTL but not more
// often than each 10 s.
type Lessor interface {
	// Grant makes a lease. TTL is rounded up to milliseconds; ErrInvalidArgument if
	// it is not between MinLeaseTTL and MaxLeaseTTL, ErrTooLarge if there are as many
	// leases as may be (100,000), ErrConflict if there is one of the id that was asked
	// for (WithLeaseID). A lease whose Grant failed with an unknown outcome expires by
	// itself.
	Grant(ctx context.Context, ttl time.Duration, opts ...GrantOption) (LeaseID, error)
	// Revoke ends a lease. ErrLeaseNotFound if there is none.
	Revoke(ctx context.Context, id LeaseID) error
	// KeepAliveOnce gives a lease its full TTL again, and returns it.
	// ErrLeaseNotFound if it has ended. It may be retried freely.
	KeepAliveOnce(ctx context.Context, id LeaseID) (time.Duration, error)
	// KeepAlive keeps a lease alive, each third of its TTL, until ctx ends, whose
	// error it returns, or the lease does (ErrLeaseNotFound). While the store cannot
	// be reached it goes on trying, longer than the TTL: only the store knows
	// whether the lease has ended.
	KeepAlive(ctx context.Context, id LeaseID) error
	// TimeToLive tells of a lease. ErrLeaseNotFound if it has ended.
	TimeToLive(ctx context.Context, id LeaseID, opts ...LeaseOption) (LeaseInfo, error)
	// Leases tells of all leases, in the order of their ids, without keys.
	Leases(ctx context.Context) ([]LeaseInfo, error)
}

// GrantOption changes a Grant.
type GrantOption interface{ ApplyGrant(*GrantOptions) }

// GrantOptions is what the options of a Grant come to.
type GrantOptions struct {
	ID LeaseID // asked for; 0: a random one
}

// LeaseOption changes a TimeToLive.
type LeaseOption interface{ ApplyLease(*LeaseOptions) }

// LeaseOptions is what the options of a TimeToLive come to.
type LeaseOptions struct {
	Keys bool
}

type withLease LeaseID

func (id withLease) ApplySet(o *SetOptions) { o.Lease = LeaseID(id) }

// WithLease hangs the key on a lease: it is deleted when the lease ends, unless it
// was written again by then; a Set without WithLease takes it off. ErrLeaseNotFound,
// and nothing is done, if there is no such lease; ErrTooLarge if as many keys hang
// on it as may (10,000, of 2 MiB together). WithLease(0) is no lease.
func WithLease(id LeaseID) SetOption { return withLease(id) }

type withLeaseID LeaseID

func (id withLeaseID) ApplyGrant(o *GrantOptions) { o.ID = LeaseID(id) }

// WithLeaseID asks for a lease of that id, which must be positive, instead of a
// random one.
func WithLeaseID(id LeaseID) GrantOption { return withLeaseID(id) }

type withKeys struct{}

func (withKeys) ApplyLease(o *LeaseOptions) { o.Keys = true }

// WithKeys asks for the keys that hang on a lease.
func WithKeys() LeaseOption { return withKeys{} }

// Validate returns an ErrInvalidArgument if id cannot be that of a lease.
func (id LeaseID) Validate() error {
	if id <= 0 {
		return fmt.Errorf("%w: lease id %d", ErrInvalidArgument, id)
	}
	return nil
}

// ValidateLeaseTTL returns an ErrInvalidArgument if a lease cannot have this TTL.
func ValidateLeaseTTL(ttl time.Duration) error {
	if ttl < MinLeaseTTL || ttl > MaxLeaseTTL {
		return fmt.Errorf("%w: a TTL of %v, it must be between %v and %v", ErrInvalidArgument, ttl, MinLeaseTTL, MaxLeaseTTL)
	}
	return nil
}
