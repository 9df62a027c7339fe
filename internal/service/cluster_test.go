package service

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// table writes a Membership as id@addr, a non-voter with a question mark.
func table(m *replkvv1.Membership) string {
	s := fmt.Sprint(m.GetIndex())
	for _, x := range m.GetMembers() {
		s += " " + x.GetId() + "@" + x.GetAddress()
		if !x.GetVoter() {
			s += "?"
		}
	}
	return s
}

func TestChangesOfMembers(t *testing.T) {
	c, ctx := replkvv1.NewClusterClient(serve(t, kvtest.NewFake())), t.Context()
	for _, step := range []struct {
		name string
		call func() (*replkvv1.Membership, error)
		want string
	}{
		{"members", func() (*replkvv1.Membership, error) { return c.Members(ctx, &replkvv1.MembersRequest{}) }, "1 fake@fake:1"},
		{"add voter", func() (*replkvv1.Membership, error) {
			return c.AddVoter(ctx, &replkvv1.AddVoterRequest{Id: "b", Address: "b:1"})
		}, "2 fake@fake:1 b@b:1"},
		{"add non-voter", func() (*replkvv1.Membership, error) {
			return c.AddNonvoter(ctx, &replkvv1.AddNonvoterRequest{Id: "c", Address: "[::1]:7", IfIndex: proto.Uint64(2)})
		}, "3 fake@fake:1 b@b:1 c@[::1]:7?"},
		{"promote", func() (*replkvv1.Membership, error) {
			return c.Promote(ctx, &replkvv1.PromoteRequest{Id: "c", IfIndex: proto.Uint64(3)})
		}, "4 fake@fake:1 b@b:1 c@[::1]:7"},
		{"remove", func() (*replkvv1.Membership, error) {
			return c.Remove(ctx, &replkvv1.RemoveRequest{Id: "b", IfIndex: proto.Uint64(4)})
		}, "5 fake@fake:1 c@[::1]:7"},
		{"add voter, if", func() (*replkvv1.Membership, error) {
			return c.AddVoter(ctx, &replkvv1.AddVoterRequest{Id: "b", Address: "b:2", IfIndex: proto.Uint64(5)})
		}, "6 fake@fake:1 c@[::1]:7 b@b:2"},
	} {
		if m, err := step.call(); err != nil || table(m) != step.want {
			t.Fatalf("%s: got %s, %v, want %s", step.name, table(m), err, step.want)
		}
	}
	for _, to := range []string{"", "b"} {
		if _, err := c.TransferLeadership(ctx, &replkvv1.TransferLeadershipRequest{To: to}); err != nil {
			t.Errorf("transfer to %q: %v", to, err)
		}
	}
}

// everyChange makes each change of the table, with the condition if it takes
// one.
func everyChange(ctx context.Context, c replkvv1.ClusterClient, id, addr string, ifIndex *uint64) map[string]error {
	_, err1 := c.AddVoter(ctx, &replkvv1.AddVoterRequest{Id: id, Address: addr, IfIndex: ifIndex})
	_, err2 := c.AddNonvoter(ctx, &replkvv1.AddNonvoterRequest{Id: id, Address: addr, IfIndex: ifIndex})
	_, err3 := c.Promote(ctx, &replkvv1.PromoteRequest{Id: id, IfIndex: ifIndex})
	_, err4 := c.Remove(ctx, &replkvv1.RemoveRequest{Id: id, IfIndex: ifIndex})
	return map[string]error{"AddVoter": err1, "AddNonvoter": err2, "Promote": err3, "Remove": err4}
}

func TestSenselessChangesAreRefused(t *testing.T) {
	f := kvtest.NewFake()
	c, ctx := replkvv1.NewClusterClient(serve(t, f)), t.Context()
	for _, id := range []string{"", "B", "a b", "a/b", string(make([]byte, 64))} {
		for op, err := range everyChange(ctx, c, id, "b:1", nil) {
			t.Run(fmt.Sprintf("%s of %q", op, id), func(t *testing.T) {
				wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", refused)
			})
		}
	}
	for _, addr := range []string{"", "b", "b:", "b:0", ":1", "0.0.0.0:1", "[::]:1", "::1"} {
		errs := everyChange(ctx, c, "b", addr, nil)
		for _, op := range []string{"AddVoter", "AddNonvoter"} {
			t.Run(fmt.Sprintf("%s at %q", op, addr), func(t *testing.T) {
				wantStatus(t, errs[op], codes.InvalidArgument, "INVALID_ARGUMENT", refused)
			})
		}
	}
	_, err := c.TransferLeadership(ctx, &replkvv1.TransferLeadershipRequest{To: "B"})
	wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", refused)
	for _, op := range []string{"AddVoter", "AddNonvoter", "TransferLeadership"} {
		if n := f.Calls(op); n > 0 {
			t.Errorf("%d senseless calls of %s came through", n, op)
		}
	}
}

func TestErrorsOfChanges(t *testing.T) {
	f := kvtest.NewFake()
	c, ctx := replkvv1.NewClusterClient(serve(t, f)), t.Context()
	for op, err := range everyChange(ctx, c, "b", "b:1", proto.Uint64(0)) { // 0 is a condition, too
		t.Run("condition of "+op, func(t *testing.T) { wantStatus(t, err, codes.FailedPrecondition, "CONFLICT", refused) })
	}
	_, err := c.Promote(ctx, &replkvv1.PromoteRequest{Id: "nobody"})
	wantStatus(t, err, codes.NotFound, "MEMBER_NOT_FOUND", refused)
	_, err = c.Remove(ctx, &replkvv1.RemoveRequest{Id: kvtest.FakeID})
	wantStatus(t, err, codes.FailedPrecondition, "UNSAFE_CHANGE", refused)
	_, err = c.TransferLeadership(ctx, &replkvv1.TransferLeadershipRequest{To: "nobody"})
	wantStatus(t, err, codes.NotFound, "MEMBER_NOT_FOUND", refused)

	f.Before = func(context.Context, string) error { return &kv.Error{Op: "change", Err: context.DeadlineExceeded} }
	for op, err := range everyChange(ctx, c, "b", "b:1", nil) {
		t.Run("doubt about "+op, func(t *testing.T) { wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", unknown) })
	}
	_, err = c.TransferLeadership(ctx, &replkvv1.TransferLeadershipRequest{})
	wantStatus(t, err, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", unknown)
	f.Before = func(context.Context, string) error { return errors.New("no") }
	_, err = c.Members(ctx, &replkvv1.MembersRequest{})
	wantStatus(t, err, codes.Unknown, "", refused)
}
