package kv

import "context"

// Member is a row of the table of members.
type Member struct {
	ID   string
	Addr string
	// Nonvoter: receives the data, counts for no quorum. Not in
	// InitialCluster.
	Nonvoter bool
}

// Membership is the table of members as of a committed configuration.
type Membership struct {
	Index   uint64 // of the configuration's log entry; it grows with each change
	Members []Member
}

// Voters returns how many members count for the quorum.
func (m Membership) Voters() int {
	n := 0
	for _, x := range m.Members {
		if !x.Nonvoter {
			n++
		}
	}
	return n
}

// Find returns the member of that id.
func (m Membership) Find(id string) (Member, bool) {
	for _, x := range m.Members {
		if x.ID == id {
			return x, true
		}
	}
	return Member{}, false
}

// MemberOption changes a change of the membership.
type MemberOption interface{ ApplyMember(*MemberOptions) }

// MemberOptions is what the options of a membership change come to.
type MemberOptions struct {
	Conditional bool
	IfIndex     uint64 // with Conditional
}

type memberOption func(*MemberOptions)

func (f memberOption) ApplyMember(o *MemberOptions) { f(o) }

// IfMembership makes a change conditional on Membership.Index: if the table
// has changed since it was read, the change fails with ErrConflict.
func IfMembership(index uint64) MemberOption {
	return memberOption(func(o *MemberOptions) { o.Conditional, o.IfIndex = true, index })
}

// MemberOptionsOf returns what options come to.
func MemberOptionsOf(opts []MemberOption) (o MemberOptions) {
	for _, f := range opts {
		f.ApplyMember(&o)
	}
	return o
}

// Cluster is what operators do to the table of members, through any member;
// *replkv.DB and *client.Client have it. Each change is one step of one member,
// and returns the table after it. Changes may be retried: what is so already is
// no error, but a condition that no longer holds is.
//
// Errors: ErrUnsafeChange if the quorum would be lost or a voter-to-be is not
// reached, with the reason; ErrMemberNotFound; ErrConflict; ErrNoLeader;
// ErrInvalidArgument; ErrInvalidConfig for a member without Addr, which takes no others.
// Whether anything was done, OutcomeOf says: AddVoter that gives up once the member is in
// the table, and TransferLeadership once it is under way, may yet succeed.
type Cluster interface {
	// Members returns the table, linearizably.
	Members(ctx context.Context) (Membership, error)
	// AddNonvoter adds a member that receives the data and counts for no quorum.
	// It need not run yet; it is started with Config.Join. ErrConflict also if it is,
	// or becomes, a voter.
	AddNonvoter(ctx context.Context, id, addr string, opts ...MemberOption) (Membership, error)
	// AddVoter adds a member, which must run, and makes it a voter once it has
	// caught up, for which it waits. If ctx ends before, the member stays, and
	// becomes a voter later.
	AddVoter(ctx context.Context, id, addr string, opts ...MemberOption) (Membership, error)
	// Promote makes a non-voter a voter once it has caught up, for which it waits.
	Promote(ctx context.Context, id string, opts ...MemberOption) (Membership, error)
	// Remove takes a member out for good: its directory is never accepted again,
	// its id may join anew. A leader hands over first.
	Remove(ctx context.Context, id string, opts ...MemberOption) (Membership, error)
	// TransferLeadership makes the voter of that id lead; "": any other voter
	// that is up to date. It returns once another member leads.
	TransferLeadership(ctx context.Context, to string) error
}
