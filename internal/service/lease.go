package service

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// leaseServer serves replkv.v1.Lease.
type leaseServer struct {
	replkvv1.UnimplementedLeaseServer
	b Backend
}

// leaseTTL checks before it multiplies: the product must not overflow.
func leaseTTL(ms int64) (time.Duration, error) {
	if ms < kv.MinLeaseTTL.Milliseconds() || ms > kv.MaxLeaseTTL.Milliseconds() {
		return 0, invalid("a TTL of %d ms, it must be between %d and %d", ms, kv.MinLeaseTTL.Milliseconds(), kv.MaxLeaseTTL.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// grantID is the id asked for; 0: none.
func grantID(id int64) (kv.LeaseID, error) {
	if id == 0 {
		return 0, nil
	}
	return kv.LeaseID(id), kv.LeaseID(id).Validate()
}

func (s *leaseServer) Grant(ctx context.Context, req *replkvv1.GrantRequest) (*replkvv1.GrantResponse, error) {
	ttl, err := leaseTTL(req.GetTtlMs())
	if err != nil {
		return nil, notDone("Grant", err)
	}
	id, err := grantID(req.GetId())
	if err != nil {
		return nil, notDone("Grant", err)
	}
	if id, err = s.b.Grant(ctx, ttl, kv.WithLeaseID(id)); err != nil {
		return nil, writeError("Grant", err)
	}
	return &replkvv1.GrantResponse{Id: int64(id)}, nil
}

func (s *leaseServer) Revoke(ctx context.Context, req *replkvv1.RevokeRequest) (*replkvv1.RevokeResponse, error) {
	id := kv.LeaseID(req.GetId())
	if err := id.Validate(); err != nil {
		return nil, notDone("Revoke", err)
	}
	if err := s.b.Revoke(ctx, id); err != nil {
		return nil, writeError("Revoke", err)
	}
	return &replkvv1.RevokeResponse{}, nil
}

func (s *leaseServer) KeepAlive(ctx context.Context, req *replkvv1.KeepAliveRequest) (*replkvv1.KeepAliveResponse, error) {
	id := kv.LeaseID(req.GetId())
	if err := id.Validate(); err != nil {
		return nil, notDone("KeepAlive", err)
	}
	ttl, err := s.b.KeepAliveOnce(ctx, id)
	if err != nil {
		return nil, writeError("KeepAlive", err)
	}
	return &replkvv1.KeepAliveResponse{TtlMs: ttl.Milliseconds()}, nil
}

func (s *leaseServer) TimeToLive(ctx context.Context, req *replkvv1.TimeToLiveRequest) (*replkvv1.LeaseInfo, error) {
	id := kv.LeaseID(req.GetId())
	if err := id.Validate(); err != nil {
		return nil, notDone("TimeToLive", err)
	}
	var opts []kv.LeaseOption
	if req.GetKeys() {
		opts = append(opts, kv.WithKeys())
	}
	info, err := s.b.TimeToLive(ctx, id, opts...)
	if err != nil {
		return nil, notDone("TimeToLive", err)
	}
	out := leaseToProto(&info)
	if n := proto.Size(out); n > maxMessageBytes { // if a lease may have more keys than by default
		return nil, notDone("TimeToLive", fmt.Errorf("%w: %d keys, %d bytes do not fit a message", kv.ErrTooLarge, len(info.Keys), n))
	}
	return out, nil
}

// leasesPage is how many leases a message tells of.
const leasesPage = 10_000

func (s *leaseServer) Leases(_ *replkvv1.LeasesRequest, stream grpc.ServerStreamingServer[replkvv1.LeasesResponse]) error {
	infos, err := s.b.Leases(stream.Context())
	if err != nil {
		return notDone("Leases", err)
	}
	for len(infos) > 0 {
		n := min(len(infos), leasesPage)
		out := &replkvv1.LeasesResponse{Leases: make([]*replkvv1.LeaseInfo, n)}
		for i := range n {
			out.Leases[i] = leaseToProto(&infos[i])
		}
		if err := stream.Send(out); err != nil {
			return err
		}
		infos = infos[n:]
	}
	return nil
}

func leaseToProto(l *kv.LeaseInfo) *replkvv1.LeaseInfo {
	out := &replkvv1.LeaseInfo{Id: int64(l.ID), TtlMs: l.TTL.Milliseconds(), RemainingMs: l.Remaining.Milliseconds()}
	for _, k := range l.Keys {
		out.Keys = append(out.Keys, []byte(k))
	}
	return out
}
