package replkvtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/store/disk/faultfs"
)

// TestFailoverIsQuick: once the leader is dead, one of the others leads within two
// election timeouts but for rare split votes, also if one of them lacks its last entry and so cannot be
// elected.
func TestFailoverIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		slow := 0
		for round := range 12 {
			for i := range 3 {
				for j := range 3 {
					if i != j {
						c.Delay(i, j, time.Millisecond)
					}
				}
			}
			lead := c.Leader()
			short, whole := (lead+1)%3, (lead+2)%3
			if round%2 == 0 {
				c.Cut(lead, short)
			}
			if _, err := c.DB(lead).Set(context.Background(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.Crash(lead)
			if _, err := c.DB(whole).Set(context.Background(), "k", []byte("w")); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			t.Logf("a write took %v", took)
			if took > 2*electionTimeout {
				slow++
			}
			if took > 4*electionTimeout {
				t.Errorf("round %d: the members that were left took %v to write, election timeout is %v", round, took, electionTimeout)
			}
			c.Heal()
			c.Restart(lead)
			c.WaitReady()
		}
		if slow > 2 { // two that stand within a round trip split the vote
			t.Errorf("the members that were left took more than two election timeouts in %d of 12 rounds", slow)
		}
	})
}

// TestShutdownIsSmooth: while the leader shuts down, no write through the others
// fails, or takes long.
func TestShutdownIsSmooth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 200 * time.Millisecond
		c := NewCluster(t, 3)
		for i := range 3 {
			for j := range 3 {
				if i != j {
					c.Delay(i, j, time.Millisecond) // in no time at all nothing would happen meanwhile
				}
			}
		}
		for range 5 {
			lead := c.Leader()
			var stop atomic.Bool
			var callers sync.WaitGroup
			for n := range 8 {
				db := c.DB((lead + 1 + n%2) % 3)
				callers.Go(func() {
					for !stop.Load() {
						began := time.Now()
						if _, err := db.Set(context.Background(), fmt.Sprint(n), []byte("v")); err != nil {
							t.Errorf("a write failed: %v", err)
						}
						if took := time.Since(began); took > limit {
							t.Errorf("a write took %v", took)
						}
					}
				})
			}
			c.Stop(lead)
			next := c.Leader()
			if e := c.DB(next).Status().LastElection; e.Reason != "leadership was handed to this member" {
				t.Errorf("the new leader says: %s", e.Reason)
			}
			stop.Store(true)
			callers.Wait()
			c.Restart(lead)
			c.WaitReady()
		}
	})
}

// TestDeafFollowerDeposesNobody: a member that does not hear its leader stands,
// asks for pre-votes again and again, and changes nothing.
func TestDeafFollowerDeposesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		deaf, term := (lead+1)%3, c.DB(lead).Status().Term
		c.Cut(lead, deaf)
		c.wait("the deaf member to stand", func() bool { return c.DB(deaf).Status().Role == "candidate" })
		ctx, cancel := context.WithTimeout(context.Background(), 10*electionTimeout)
		defer cancel()
		if err := c.DB(deaf).Ready(ctx); err == nil {
			t.Error("the deaf member is ready: the test shows nothing")
		}
		if s := c.DB(lead).Status(); s.Role != "leader" || s.Term != term {
			t.Errorf("%s in term %d, was leader in %d", s.Role, s.Term, term)
		}
	})
}

// TestTransferThatIsNotTakenUp: raft's main loop waits for a disk, and is shut down
// before it comes to a transfer of leadership: nothing waits for that for good.
func TestTransferThatIsNotTakenUp(t *testing.T) {
	for range 8 { // raft may take it up first
		synctest.Test(t, func(t *testing.T) {
			opt, disks := withFaults()
			c := NewCluster(t, 3, opt)
			c.WaitReady()
			leader := c.Leader()
			hang := faultfs.NewHang(faultfs.Of(faultfs.Mutating, "/log/"))
			defer hang.Release()
			disks(leader).SetFault(hang.Fault)
			var wg sync.WaitGroup
			defer wg.Wait()
			db := c.DB(leader)
			wg.Go(func() { db.Set(context.Background(), "k", nil) })
			<-hang.Reached()
			wg.Go(func() { db.TransferLeadership(context.Background(), "") })
			synctest.Wait()
			time.AfterFunc(time.Second, hang.Release)
			c.Crash(leader)
			c.Restart(leader)
		})
	}
}

// TestTransferToAny: who asks a follower that any other shall lead gets one transfer,
// also if it hears of the next leader before the old one answers. (The simulation:
// leaders handed the office on to each other 150 times a second until ctx ended.)
func TestTransferToAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		for range 5 {
			leader := c.Leader()
			asked := (leader + 1) % 3
			c.Delay(leader, asked, 20*time.Millisecond)
			before := c.DB(leader).Status().Term
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := c.DB(asked).TransferLeadership(ctx, "")
			cancel()
			if err != nil {
				t.Error(err)
			}
			c.Delay(leader, asked, 0)
			next := c.Leader()
			if term := c.DB(next).Status().Term; next == leader || term != before+1 {
				t.Errorf("member %d led term %d, now %d leads term %d", leader, before, next, term)
			}
			c.WaitReady()
		}
	})
}
