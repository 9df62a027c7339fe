package service

import (
	"math"
	"testing"

	"google.golang.org/grpc/codes"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
)

// What makes no sense is refused before the backend sees it.
func TestBadLeaseRequests(t *testing.T) {
	f := kvtest.NewFake()
	conn := serve(t, f)
	c, k, ctx := replkvv1.NewLeaseClient(conn), replkvv1.NewKVClient(conn), t.Context()
	bad := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
			return
		}
		wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", refused)
	}
	for _, ttl := range []int64{0, -1, 999, 9_000_000_000_001, math.MaxInt64, math.MinInt64} {
		_, err := c.Grant(ctx, &replkvv1.GrantRequest{TtlMs: ttl})
		bad("Grant", err)
	}
	_, err := c.Grant(ctx, &replkvv1.GrantRequest{TtlMs: 1000, Id: -1})
	bad("Grant of a negative id", err)
	for _, id := range []int64{0, -1, math.MinInt64} {
		_, err := c.Revoke(ctx, &replkvv1.RevokeRequest{Id: id})
		bad("Revoke", err)
		_, err = c.KeepAlive(ctx, &replkvv1.KeepAliveRequest{Id: id})
		bad("KeepAlive", err)
		_, err = c.TimeToLive(ctx, &replkvv1.TimeToLiveRequest{Id: id})
		bad("TimeToLive", err)
	}
	_, err = k.Set(ctx, &replkvv1.SetRequest{Key: []byte("k"), Lease: -1})
	bad("Set", err)
	for _, op := range []string{"Grant", "Revoke", "KeepAliveOnce", "TimeToLive", "Set"} {
		if n := f.Calls(op); n > 0 {
			t.Errorf("%d calls of %s came through", n, op)
		}
	}
}

// In a batch each bad operation fails by itself.
func TestBadLeasesInABatch(t *testing.T) {
	f, c, id := openSession(t)
	grant := func(m *replkvv1.GrantRequest) *replkvv1.WriteOperation {
		return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Grant{Grant: m}}
	}
	revoke := func(m *replkvv1.RevokeRequest) *replkvv1.WriteOperation {
		return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Revoke{Revoke: m}}
	}
	set := func(lease int64) *replkvv1.WriteOperation {
		return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte("k"), Lease: lease}}}
	}
	res, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: id, Seq: 1, Operations: []*replkvv1.WriteOperation{
		grant(&replkvv1.GrantRequest{Id: 7, TtlMs: 60_000}), set(7), // these two are fine
		grant(nil), grant(&replkvv1.GrantRequest{TtlMs: 60_000}), grant(&replkvv1.GrantRequest{Id: -7, TtlMs: 60_000}),
		grant(&replkvv1.GrantRequest{Id: 8, TtlMs: 999}), grant(&replkvv1.GrantRequest{Id: 8, TtlMs: math.MaxInt64}),
		revoke(nil), revoke(&replkvv1.RevokeRequest{Id: -7}), set(-7),
	}})
	if err != nil || len(res.GetResults()) != 10 {
		t.Fatalf("got %v, %v", res, err)
	}
	for i, r := range res.GetResults() {
		if i < 2 {
			if len(r.GetError()) > 0 {
				t.Errorf("operation %d: %v", i, opError(t, r))
			}
			continue
		}
		wantStatus(t, opError(t, r), codes.InvalidArgument, "INVALID_ARGUMENT", refused)
	}
	if infos, err := f.Leases(t.Context()); err != nil || len(infos) != 1 || infos[0].ID != 7 {
		t.Errorf("leases %v, %v", infos, err)
	}
}
