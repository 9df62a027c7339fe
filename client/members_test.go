package client

import (
	"context"
	"errors"
	"testing"

	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// The client obeys the table that the embedded handle obeys.
func TestClientIsACluster(t *testing.T) {
	kvtest.RunCluster(t, func(t *testing.T) kv.Cluster {
		c, _ := one(t, Config{})
		return c
	})
}

func TestChangesOfVoters(t *testing.T) {
	c, _ := one(t, Config{})
	ctx := t.Context()
	if m, err := c.AddVoter(ctx, "b", "b:1", kv.IfMembership(1)); err != nil || m.Voters() != 2 {
		t.Errorf("add: %v, %v", m, err)
	}
	if _, err := c.AddVoter(ctx, "d", "d:1", kv.IfMembership(0)); !errors.Is(err, kv.ErrConflict) { // 0 is a condition, too
		t.Errorf("add to another table: %v", err)
	}
	if _, err := c.AddNonvoter(ctx, "c", "c:1"); err != nil {
		t.Error(err)
	}
	if m, err := c.Promote(ctx, "c", kv.IfMembership(3)); err != nil || m.Voters() != 3 || m.Index != 4 {
		t.Errorf("promote: %v, %v", m, err)
	}
	if err := c.TransferLeadership(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// What the first endpoint answers to a change, who is asked then, and what is
// known of the change if the second refuses it.
func TestWhichChangesAreMadeAgain(t *testing.T) {
	inDoubt := &kv.Error{Err: kv.ErrClosed}
	refused := &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrRemoved}
	add := func(ctx context.Context, c *Client) error { _, err := c.AddVoter(ctx, "m", "m:1"); return err }
	addIf := func(ctx context.Context, c *Client) error {
		_, err := c.AddVoter(ctx, "m", "m:1", kv.IfMembership(1))
		return err
	}
	transfer := func(to string) func(context.Context, *Client) error {
		return func(ctx context.Context, c *Client) error { return c.TransferLeadership(ctx, to) }
	}
	for _, test := range []struct {
		name, op string
		change   func(context.Context, *Client) error
		answer   error
		goesOn   bool
		after    kv.Outcome // when b refuses, too
	}{
		{"a change in doubt", "AddVoter", add, inDoubt, true, kv.OutcomeUnknown},
		{"a change refused", "AddVoter", add, refused, true, kv.OutcomeNotDone},
		{"a change with a condition in doubt", "AddVoter", addIf, inDoubt, false, kv.OutcomeUnknown},
		{"a change with a condition refused", "AddVoter", addIf, refused, true, kv.OutcomeNotDone},
		{"a named leader in doubt", "TransferLeadership", transfer(kvtest.FakeID), inDoubt, true, kv.OutcomeUnknown},
		{"any leader in doubt", "TransferLeadership", transfer(""), inDoubt, false, kv.OutcomeUnknown},
		{"any leader refused", "TransferLeadership", transfer(""), refused, true, kv.OutcomeNotDone},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, a, b, _ := two(t)
			a.Before = failWith(test.answer)
			err := test.change(t.Context(), c)
			if asked := b.Calls(test.op) == 1; a.Calls(test.op) != 1 || asked != test.goesOn || (err == nil) != test.goesOn {
				t.Errorf("a was asked %d times, b %d times: %v", a.Calls(test.op), b.Calls(test.op), err)
			}
			c, a, b, _ = two(t)
			a.Before = failWith(test.answer)
			b.Before = failWith(&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrNoLeader})
			if err := test.change(t.Context(), c); kv.OutcomeOf(err) != test.after {
				t.Errorf("%v is %v", err, kv.OutcomeOf(err))
			}
		})
	}
}

// The first endpoint removes the member, and its answer is lost.
func TestARemovalIsFoundDone(t *testing.T) {
	c, a, b, _ := two(t)
	a.Before = failWith(&kv.Error{Err: kv.ErrClosed})
	if m, err := c.Remove(t.Context(), "m"); err != nil || len(m.Members) != 1 || b.Calls("Remove") != 1 {
		t.Errorf("got %v, %v", m, err)
	}
	c, a, _, _ = two(t)
	a.Before = failWith(&kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed})
	if _, err := c.Remove(t.Context(), "m"); !errors.Is(err, kv.ErrMemberNotFound) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("after a refusal: %v", err)
	}
	c, a, b, _ = two(t)
	a.Before = failWith(&kv.Error{Err: kv.ErrClosed})
	b.Before = func(_ context.Context, op string) error {
		if op == "Members" {
			return &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrOverloaded}
		}
		return nil
	}
	if _, err := c.Remove(t.Context(), "m"); !errors.Is(err, kv.ErrOverloaded) || kv.OutcomeOf(err) != kv.OutcomeDone {
		t.Errorf("without the table: %v", err)
	}
}
