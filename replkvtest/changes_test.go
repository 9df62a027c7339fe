package replkvtest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

// TestAddVoterThatGivesUpIsNotNotDone: whoever asked for it goes away when the member is in
// the table already, and will be a voter once it has caught up.
func TestAddVoterThatGivesUpIsNotNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		for _, by := range []int{lead, (lead + 1) % 3} {
			id, gone := c.stray(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := c.DB(by).AddVoter(ctx, id, id+":1")
				done <- err
			}()
			c.wait("it to be a member", func() bool { _, in := c.tableBy(lead).Find(id); return in })
			cancel()
			if err := <-done; err == nil || replkv.OutcomeOf(err) != replkv.OutcomeUnknown {
				t.Errorf("through member %d: %v, outcome %v", by, err, replkv.OutcomeOf(err))
			}
			if _, err := c.DB(lead).Remove(t.Context(), id); err != nil {
				t.Error(err)
			}
			gone()
		}
	})
}

// stray is a process that says hello, which is all that AddVoter wants at first, and
// reaches nobody itself.
func (c *Cluster) stray(t *testing.T) (id string, stop func()) {
	i := c.add()
	m := c.in.Members[i]
	m.Out, m.Down = true, true // the cluster of the test is not to look after it
	l, err := c.in.Net.Listen(m.ID + ":1")
	if err != nil {
		t.Fatal(err)
	}
	v, err := hook.Open(replkv.Config{Dir: "data", ID: m.ID, Addr: m.ID + ":1", Listener: l, Dial: c.in.Net.Dialer(m.ID), InsecurePeers: true,
		Join: []string{"nowhere:1"}, ElectionTimeout: electionTimeout}, hook.Edges{FS: m.FS})
	if err != nil {
		t.Fatal(err)
	}
	return m.ID, func() { v.(*replkv.DB).Close() }
}

// TestTransferThatGivesUpIsNotNotDone: whoever asked for it goes away when the other has
// been told to stand, or soon will be. It leads then.
func TestTransferThatGivesUpIsNotNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		to := (lead + 1) % 3
		delay := func(d time.Duration) {
			for i := range 3 {
				for j := range 3 {
					c.Delay(i, j, d)
				}
			}
		}
		delay(40 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 130*time.Millisecond)
		defer cancel()
		err := c.DB(lead).TransferLeadership(ctx, c.in.Members[to].ID)
		if err == nil || replkv.OutcomeOf(err) != replkv.OutcomeUnknown {
			t.Errorf("%v, outcome %v", err, replkv.OutcomeOf(err))
		}
		c.wait("the other to lead: else the test shows nothing", func() bool { now, ok := c.in.LeaderNow(); return ok && now == to })
		delay(0)
	})
}

// TestAddNonvoterOfAVoter: who asks for a member that does not vote is told if it does, or
// will.
func TestAddNonvoterOfAVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		refused := func(id, addr string) {
			t.Helper()
			for _, by := range []int{lead, (lead + 1) % 3} {
				_, err := c.DB(by).AddNonvoter(t.Context(), id, addr)
				if !errors.Is(err, replkv.ErrConflict) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
					t.Errorf("%s, through member %d: %v, outcome %v", id, by, err, replkv.OutcomeOf(err))
				}
			}
		}
		refused(c.in.Members[(lead+2)%3].ID, c.in.Members[(lead+2)%3].Addr)

		for range 2 { // one that does not vote may be asked for again
			if _, err := c.DB(lead).AddNonvoter(t.Context(), "m9", "m9:1"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), electionTimeout)
		defer cancel()
		if _, err := c.DB(lead).AddVoter(ctx, "m9", "m9:1"); !errors.Is(err, replkv.ErrUnsafeChange) { // it waits for it
			t.Fatal(err)
		}
		refused("m9", "m9:1")
		if _, err := c.DB(lead).Remove(t.Context(), "m9"); err != nil {
			t.Error(err)
		}
	})
}

// TestLonelyTakesNobody: no member could reach a store without Addr.
func TestLonelyTakesNobody(t *testing.T) {
	db := Open(t)
	for name, add := range map[string]func(context.Context, string, string, ...replkv.MemberOption) (replkv.Membership, error){
		"AddNonvoter": db.AddNonvoter, "AddVoter": db.AddVoter,
	} {
		if m, err := add(t.Context(), "n2", "127.0.0.1:1"); !errors.Is(err, replkv.ErrInvalidConfig) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if m, err := db.Members(t.Context()); err != nil || len(m.Members) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestARefusalIsAnAnswer: a member that refuses a request is reached.
func TestARefusalIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		other := (lead + 1) % 3
		if _, err := c.DB(other).Remove(t.Context(), "nobody"); !errors.Is(err, replkv.ErrMemberNotFound) {
			t.Fatal(err)
		}
		for _, m := range c.DB(other).Status().Members {
			if m.ID == c.in.Members[lead].ID && (m.LastError != nil || m.LastContact.IsZero()) {
				t.Errorf("LastError %v, last contact %v", m.LastError, m.LastContact)
			}
		}
	})
}
