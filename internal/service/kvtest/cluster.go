package kvtest

import (
	"errors"
	"testing"

	"github.com/replkv/replkv/kv"
)

// RunCluster checks what implementations of kv.Cluster have in common. open
// returns that of a cluster of one voter. Members that are added do not run.
func RunCluster(t *testing.T, open func(t *testing.T) kv.Cluster) {
	c, ctx := open(t), t.Context()
	want := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || want != nil && kv.OutcomeOf(err) != kv.OutcomeNotDone {
			t.Errorf("%s: got %v (%v), want %v", what, err, kv.OutcomeOf(err), want)
		}
	}
	m0, err := c.Members(ctx)
	if err != nil || len(m0.Members) != 1 || m0.Voters() != 1 {
		t.Fatalf("got %v, %v", m0, err)
	}
	m1, err := c.AddNonvoter(ctx, "x", "x.example:1")
	if x, ok := m1.Find("x"); err != nil || !ok || x != (kv.Member{ID: "x", Addr: "x.example:1", Nonvoter: true}) || m1.Index <= m0.Index {
		t.Fatalf("add: %v, %v", m1, err)
	}
	again, err := c.AddNonvoter(ctx, "x", "x.example:1")
	if err != nil || again.Index != m1.Index {
		t.Errorf("add again: %v, %v", again, err)
	}
	_, err = c.AddNonvoter(ctx, "x", "elsewhere.example:1")
	want("an id that is taken", err, kv.ErrConflict)
	_, err = c.AddNonvoter(ctx, "y", "x.example:1")
	want("an address that is taken", err, kv.ErrConflict)
	_, err = c.AddNonvoter(ctx, "y", "y.example:1", kv.IfMembership(m0.Index))
	want("an old table", err, kv.ErrConflict)
	m2, err := c.AddNonvoter(ctx, "y", "y.example:1", kv.IfMembership(m1.Index))
	if err != nil || len(m2.Members) != 3 || m2.Voters() != 1 {
		t.Errorf("add to this table: %v, %v", m2, err)
	}

	_, err = c.Promote(ctx, "nobody")
	want("promote nobody", err, kv.ErrMemberNotFound)
	_, err = c.Remove(ctx, "nobody")
	want("remove nobody", err, kv.ErrMemberNotFound)
	want("nobody leads", c.TransferLeadership(ctx, "nobody"), kv.ErrMemberNotFound)
	_, err = c.Remove(ctx, m0.Members[0].ID)
	want("remove the last voter", err, kv.ErrUnsafeChange)
	for _, id := range []string{"", "UPPER", "a b"} {
		_, err = c.AddVoter(ctx, id, "z.example:1")
		want("add of id "+id, err, kv.ErrInvalidArgument)
		_, err = c.Remove(ctx, id)
		want("remove of id "+id, err, kv.ErrInvalidArgument)
	}
	for _, addr := range []string{"", "z.example", ":1", "0.0.0.0:1", "z.example:0"} {
		_, err = c.AddVoter(ctx, "z", addr)
		want("add at "+addr, err, kv.ErrInvalidArgument)
	}

	m3, err := c.Remove(ctx, "x", kv.IfMembership(m2.Index))
	if _, ok := m3.Find("x"); err != nil || ok || m3.Index <= m2.Index {
		t.Errorf("remove: %v, %v", m3, err)
	}
	if _, err := c.Remove(ctx, "y"); err != nil {
		t.Errorf("remove: %v", err)
	}
	m4, err := c.Members(ctx)
	if err != nil || len(m4.Members) != 1 || m4.Index <= m3.Index {
		t.Errorf("at the end: %v, %v", m4, err)
	}
}
