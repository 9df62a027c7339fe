package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/keepalive"
	"github.com/replkv/replkv/kv"
)

// Grant makes a lease that lives for ttl, and as long as it is kept alive. It is
// done once, as a Set is. See kv.Lessor.
func (c *Client) Grant(ctx context.Context, ttl time.Duration, opts ...kv.GrantOption) (kv.LeaseID, error) {
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
		return 0, refused("Grant", err)
	}
	ms := (ttl + time.Millisecond - 1).Milliseconds() // a lease lives at least as long as was asked
	_, err = c.write(ctx, "Grant", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Grant{
		Grant: &replkvv1.GrantRequest{Id: int64(id), TtlMs: ms}}})
	if err != nil {
		return 0, err
	}
	return id, nil
}

// randomLease draws an id that nobody has had, as good as certainly.
func randomLease() (kv.LeaseID, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		if id := kv.LeaseID(binary.BigEndian.Uint64(b[:]) & math.MaxInt64); id != 0 {
			return id, nil
		}
	}
}

// Revoke ends a lease, and deletes the keys that hang on it at one revision. It is
// done once, as a Set is. See kv.Lessor.
func (c *Client) Revoke(ctx context.Context, id kv.LeaseID) error {
	if err := id.Validate(); err != nil {
		return refused("Revoke", err)
	}
	_, err := c.write(ctx, "Revoke", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Revoke{
		Revoke: &replkvv1.RevokeRequest{Id: int64(id)}}})
	return err
}

// KeepAliveOnce gives a lease its full TTL again, and returns it. See kv.Lessor.
func (c *Client) KeepAliveOnce(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	return c.keepAlive(ctx, "KeepAliveOnce", id)
}

// KeepAlive keeps a lease alive until ctx ends, or the lease does
// (kv.ErrLeaseNotFound), or the server refuses this client. See kv.Lessor.
func (c *Client) KeepAlive(ctx context.Context, id kv.LeaseID) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(kv.ErrClosed) })()
	return keepalive.Run(ctx, c.timeout, func(ctx context.Context) (time.Duration, error) {
		return c.keepAlive(ctx, "KeepAlive", id)
	}, func(err error) bool {
		code := codes.OK
		if e, ok := errors.AsType[*kv.Error](err); ok {
			code = status.Code(e.Err)
		}
		return code == codes.Unauthenticated || code == codes.PermissionDenied || code == codes.Unimplemented
	})
}

func (c *Client) keepAlive(ctx context.Context, op string, id kv.LeaseID) (time.Duration, error) {
	if err := id.Validate(); err != nil {
		return 0, refused(op, err)
	}
	var res *replkvv1.KeepAliveResponse
	err := c.do(ctx, op, settles, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = s.KeepAlive(ctx, &replkvv1.KeepAliveRequest{Id: int64(id)}, opts...)
		return err
	})
	if e, ok := errors.AsType[*kv.Error](err); ok {
		e.Op = op
		if errors.Is(err, kv.ErrLeaseNotFound) {
			e.Outcome = kv.OutcomeNotDone // what an earlier turn may have kept alive has ended since
		}
	}
	return millis(res.GetTtlMs()), err
}

func millis(ms int64) time.Duration {
	return time.Duration(max(0, min(ms, kv.MaxLeaseTTL.Milliseconds()))) * time.Millisecond
}

// TimeToLive tells of a lease. See kv.Lessor.
func (c *Client) TimeToLive(ctx context.Context, id kv.LeaseID, opts ...kv.LeaseOption) (kv.LeaseInfo, error) {
	var o kv.LeaseOptions
	for _, opt := range opts {
		opt.ApplyLease(&o)
	}
	if err := id.Validate(); err != nil {
		return kv.LeaseInfo{}, refused("TimeToLive", err)
	}
	var res *replkvv1.LeaseInfo
	err := c.do(ctx, "TimeToLive", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = s.TimeToLive(ctx, &replkvv1.TimeToLiveRequest{Id: int64(id), Keys: o.Keys}, opts...)
		return err
	})
	if err != nil {
		return kv.LeaseInfo{}, err
	}
	return leaseFromProto(res), nil
}

// Leases tells of all leases, in the order of their ids. See kv.Lessor.
func (c *Client) Leases(ctx context.Context) (out []kv.LeaseInfo, err error) {
	err = c.do(ctx, "Leases", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) error {
		out = nil // of an endpoint that did not finish
		stream, err := s.Leases(ctx, &replkvv1.LeasesRequest{}, opts...)
		for err == nil {
			var page *replkvv1.LeasesResponse
			if page, err = stream.Recv(); err == io.EOF {
				return nil
			}
			for _, l := range page.GetLeases() {
				out = append(out, leaseFromProto(l))
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func leaseFromProto(l *replkvv1.LeaseInfo) kv.LeaseInfo {
	out := kv.LeaseInfo{ID: kv.LeaseID(l.GetId()), TTL: millis(l.GetTtlMs()), Remaining: millis(l.GetRemainingMs())}
	for _, k := range l.GetKeys() {
		out.Keys = append(out.Keys, string(k))
	}
	return out
}
