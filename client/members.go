package client

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// Changes of the members. One without condition goes on to the next endpoint
// also when nobody knows what the last one did; one with a condition may have
// made it false itself, and would tell of a conflict that is none.

// Members returns the table of members, linearizably. See kv.Cluster.
func (c *Client) Members(ctx context.Context) (kv.Membership, error) {
	return c.membership(ctx, "Members", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (*replkvv1.Membership, error) {
		return s.Members(ctx, &replkvv1.MembersRequest{}, opts...)
	})
}

// AddVoter adds a member, and waits until it has caught up and is a voter: give
// ctx a deadline for the time that takes, which may exceed RequestTimeout. See
// kv.Cluster.
func (c *Client) AddVoter(ctx context.Context, id, addr string, opts ...kv.MemberOption) (kv.Membership, error) {
	ifIndex, eff := changeOptions(opts)
	req := &replkvv1.AddVoterRequest{Id: id, Address: addr, IfIndex: ifIndex}
	return c.membership(ctx, "AddVoter", eff, func(ctx context.Context, s services, opts ...grpc.CallOption) (*replkvv1.Membership, error) {
		return s.AddVoter(ctx, req, opts...)
	})
}

// AddNonvoter adds a member that counts for no quorum. See kv.Cluster.
func (c *Client) AddNonvoter(ctx context.Context, id, addr string, opts ...kv.MemberOption) (kv.Membership, error) {
	ifIndex, eff := changeOptions(opts)
	req := &replkvv1.AddNonvoterRequest{Id: id, Address: addr, IfIndex: ifIndex}
	return c.membership(ctx, "AddNonvoter", eff, func(ctx context.Context, s services, opts ...grpc.CallOption) (*replkvv1.Membership, error) {
		return s.AddNonvoter(ctx, req, opts...)
	})
}

// Promote makes a non-voter a voter, and waits as AddVoter does. See kv.Cluster.
func (c *Client) Promote(ctx context.Context, id string, opts ...kv.MemberOption) (kv.Membership, error) {
	ifIndex, eff := changeOptions(opts)
	req := &replkvv1.PromoteRequest{Id: id, IfIndex: ifIndex}
	return c.membership(ctx, "Promote", eff, func(ctx context.Context, s services, opts ...grpc.CallOption) (*replkvv1.Membership, error) {
		return s.Promote(ctx, req, opts...)
	})
}

// Remove takes a member out for good. See kv.Cluster.
func (c *Client) Remove(ctx context.Context, id string, opts ...kv.MemberOption) (kv.Membership, error) {
	ifIndex, eff := changeOptions(opts)
	req := &replkvv1.RemoveRequest{Id: id, IfIndex: ifIndex}
	m, err := c.membership(ctx, "Remove", eff, func(ctx context.Context, s services, opts ...grpc.CallOption) (*replkvv1.Membership, error) {
		return s.Remove(ctx, req, opts...)
	})
	if !errors.Is(err, kv.ErrMemberNotFound) || kv.OutcomeOf(err) == kv.OutcomeNotDone {
		return m, err
	}
	// An endpoint before the one that did not find it has removed it.
	if m, err = c.Members(ctx); err != nil {
		err = &kv.Error{Op: "Remove", Outcome: kv.OutcomeDone, Err: err}
	}
	return m, err
}

// TransferLeadership makes the voter of that id lead; "": any other. See
// kv.Cluster.
func (c *Client) TransferLeadership(ctx context.Context, to string) error {
	eff := settles
	if to == "" { // a second time might bring it back to who led before
		eff = writes
	}
	req := &replkvv1.TransferLeadershipRequest{To: to}
	return c.do(ctx, "TransferLeadership", eff, func(ctx context.Context, s services, opts ...grpc.CallOption) error {
		_, err := s.TransferLeadership(ctx, req, opts...)
		return err
	})
}

func changeOptions(opts []kv.MemberOption) (ifIndex *uint64, eff effect) {
	o := kv.MemberOptionsOf(opts)
	if o.Conditional {
		return &o.IfIndex, writes
	}
	return nil, settles
}

// membership makes a call that answers with the table.
func (c *Client) membership(ctx context.Context, op string, eff effect,
	fn func(context.Context, services, ...grpc.CallOption) (*replkvv1.Membership, error)) (kv.Membership, error) {
	var res *replkvv1.Membership
	err := c.do(ctx, op, eff, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = fn(ctx, s, opts...)
		return err
	})
	if err != nil {
		return kv.Membership{}, err
	}
	out := kv.Membership{Index: res.GetIndex()}
	for _, m := range res.GetMembers() {
		out.Members = append(out.Members, kv.Member{ID: m.GetId(), Addr: m.GetAddress(), Nonvoter: !m.GetVoter()})
	}
	return out, nil
}
