package replkvtest

import (
	"context"
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
