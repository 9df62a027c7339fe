package service

import (
	"context"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// clusterServer serves replkv.v1.Cluster.
type clusterServer struct {
	replkvv1.UnimplementedClusterServer
	b Backend
}

func (s *clusterServer) Status(ctx context.Context, _ *replkvv1.StatusRequest) (*replkvv1.StatusResponse, error) {
	st, err := s.b.Status(ctx)
	if err != nil {
		return nil, notDone("Status", err)
	}
	return st, nil
}

func (s *clusterServer) Members(ctx context.Context, _ *replkvv1.MembersRequest) (*replkvv1.Membership, error) {
	m, err := s.b.Members(ctx)
	if err != nil {
		return nil, notDone("Members", err)
	}
	return membershipToProto(&m), nil
}

func (s *clusterServer) AddVoter(ctx context.Context, req *replkvv1.AddVoterRequest) (*replkvv1.Membership, error) {
	return change("AddVoter", newMember(req.GetId(), req.GetAddress()), func() (kv.Membership, error) {
		return s.b.AddVoter(ctx, req.GetId(), req.GetAddress(), ifIndex(req.IfIndex)...)
	})
}

func (s *clusterServer) AddNonvoter(ctx context.Context, req *replkvv1.AddNonvoterRequest) (*replkvv1.Membership, error) {
	return change("AddNonvoter", newMember(req.GetId(), req.GetAddress()), func() (kv.Membership, error) {
		return s.b.AddNonvoter(ctx, req.GetId(), req.GetAddress(), ifIndex(req.IfIndex)...)
	})
}

func (s *clusterServer) Promote(ctx context.Context, req *replkvv1.PromoteRequest) (*replkvv1.Membership, error) {
	return change("Promote", memberID(req.GetId()), func() (kv.Membership, error) {
		return s.b.Promote(ctx, req.GetId(), ifIndex(req.IfIndex)...)
	})
}

func (s *clusterServer) Remove(ctx context.Context, req *replkvv1.RemoveRequest) (*replkvv1.Membership, error) {
	return change("Remove", memberID(req.GetId()), func() (kv.Membership, error) {
		return s.b.Remove(ctx, req.GetId(), ifIndex(req.IfIndex)...)
	})
}

func (s *clusterServer) TransferLeadership(ctx context.Context, req *replkvv1.TransferLeadershipRequest) (*replkvv1.TransferLeadershipResponse, error) {
	if to := req.GetTo(); to != "" {
		if err := memberID(to); err != nil {
			return nil, notDone("TransferLeadership", err)
		}
	}
	if err := s.b.TransferLeadership(ctx, req.GetTo()); err != nil {
		return nil, writeError("TransferLeadership", err)
	}
	return &replkvv1.TransferLeadershipResponse{}, nil
}

// change makes a change of the table, unless its request was refused.
func change(op string, refused error, do func() (kv.Membership, error)) (*replkvv1.Membership, error) {
	if refused != nil {
		return nil, notDone(op, refused)
	}
	m, err := do()
	if err != nil {
		return nil, writeError(op, err)
	}
	return membershipToProto(&m), nil
}

func membershipToProto(m *kv.Membership) *replkvv1.Membership {
	out := &replkvv1.Membership{Index: m.Index}
	for _, x := range m.Members {
		out.Members = append(out.Members, &replkvv1.Member{Id: x.ID, Address: x.Addr, Voter: !x.Nonvoter})
	}
	return out
}
