package kvtest

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"

	"github.com/replkv/replkv/kv"
)

// FakeID is the member that a Fake is: the first in its table, and its leader.
const FakeID = "fake"

// FakeAddr is its address.
const FakeAddr = "fake:1"

// Members implements kv.Cluster.
func (f *Fake) Members(ctx context.Context) (kv.Membership, error) {
	err := f.begin(ctx, "Members")
	defer f.mu.Unlock()
	if err != nil {
		return kv.Membership{}, err
	}
	return f.membership(), nil
}

// AddVoter implements kv.Cluster. Members of a Fake are caught up at once.
func (f *Fake) AddVoter(ctx context.Context, id, addr string, opts ...kv.MemberOption) (kv.Membership, error) {
	return f.change(ctx, "AddVoter", id, opts, func() error { return f.add(kv.Member{ID: id, Addr: addr}) })
}

// AddNonvoter implements kv.Cluster.
func (f *Fake) AddNonvoter(ctx context.Context, id, addr string, opts ...kv.MemberOption) (kv.Membership, error) {
	return f.change(ctx, "AddNonvoter", id, opts, func() error { return f.add(kv.Member{ID: id, Addr: addr, Nonvoter: true}) })
}

// Promote implements kv.Cluster.
func (f *Fake) Promote(ctx context.Context, id string, opts ...kv.MemberOption) (kv.Membership, error) {
	return f.change(ctx, "Promote", id, opts, func() error {
		m, ok := f.membership().Find(id)
		if !ok {
			return fmt.Errorf("%w: %s", kv.ErrMemberNotFound, id)
		}
		return f.put(kv.Member{ID: id, Addr: m.Addr})
	})
}

// Remove implements kv.Cluster.
func (f *Fake) Remove(ctx context.Context, id string, opts ...kv.MemberOption) (kv.Membership, error) {
	return f.change(ctx, "Remove", id, opts, func() error {
		i := f.find(id)
		switch {
		case i < 0:
			return fmt.Errorf("%w: %s", kv.ErrMemberNotFound, id)
		case !f.members[i].Nonvoter && f.membership().Voters() == 1:
			return fmt.Errorf("%w: %s is the last voter", kv.ErrUnsafeChange, id)
		}
		f.members, f.table = slices.Delete(f.members, i, i+1), f.table+1
		return nil
	})
}

// TransferLeadership implements kv.Cluster; a Fake goes on to lead all the same.
func (f *Fake) TransferLeadership(ctx context.Context, to string) error {
	err := f.begin(ctx, "TransferLeadership")
	defer f.mu.Unlock()
	if err == nil && to != "" && f.find(to) < 0 {
		err = fail("TransferLeadership", fmt.Errorf("%w: %s", kv.ErrMemberNotFound, to))
	}
	return err
}

var validID = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)

func (f *Fake) change(ctx context.Context, op, id string, opts []kv.MemberOption, do func() error) (kv.Membership, error) {
	o := kv.MemberOptionsOf(opts)
	err := f.begin(ctx, op)
	defer f.mu.Unlock()
	if err == nil && !validID.MatchString(id) {
		err = fmt.Errorf("%w: id %q", kv.ErrInvalidArgument, id)
	}
	if err == nil && o.Conditional && o.IfIndex != f.table {
		err = fmt.Errorf("%w: the table is at %d", kv.ErrConflict, f.table)
	}
	if err == nil {
		err = do()
	}
	if err != nil {
		return kv.Membership{}, fail(op, err)
	}
	return f.membership(), nil
}

func (f *Fake) add(m kv.Member) error {
	host, port, err := net.SplitHostPort(m.Addr)
	if err != nil || host == "" || host == "0.0.0.0" || port == "" || port == "0" {
		return fmt.Errorf("%w: address %q", kv.ErrInvalidArgument, m.Addr)
	}
	return f.put(m)
}

// put adds m, or makes the non-voter of that id a voter.
func (f *Fake) put(m kv.Member) error {
	for i, x := range f.members {
		switch {
		case (x.ID == m.ID) != (x.Addr == m.Addr):
			return fmt.Errorf("%w: %s is at %s", kv.ErrConflict, x.ID, x.Addr)
		case x.ID == m.ID && (x == m || m.Nonvoter): // so already; a voter stays one
			return nil
		case x.ID == m.ID:
			f.members[i], f.table = m, f.table+1
			return nil
		}
	}
	f.members, f.table = append(f.members, m), f.table+1
	return nil
}

func (f *Fake) find(id string) int {
	return slices.IndexFunc(f.members, func(m kv.Member) bool { return m.ID == id })
}

func (f *Fake) membership() kv.Membership {
	return kv.Membership{Index: f.table, Members: slices.Clone(f.members)}
}
