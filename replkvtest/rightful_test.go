package replkvtest

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// Tests that rightful members are not refused, and others not let in, by
// sequences that a review found. They run in virtual time.

// allKnow waits until every member knows every other's start.
func (c *Cluster) allKnow() {
	c.t.Helper()
	for i := range c.in.Members {
		for j := range c.in.Members {
			if i != j {
				c.knows(i, j)
			}
		}
	}
}

// goesOn fails the test if member i stops within a while.
func (c *Cluster) goesOn(i int) {
	c.t.Helper()
	select {
	case <-c.DB(i).Done():
		c.t.Fatalf("member %d stopped: %v", i, c.DB(i).Err())
	case <-time.After(30 * electionTimeout):
	}
}

// replace empties member i's directory, after it was removed, and lets it join.
func (c *Cluster) replace(i int) {
	c.t.Helper()
	c.DB(i).Close()
	c.in.Members[i].FS, c.in.Members[i].Out, c.in.Members[i].Down = disk.NewMem(), false, true
	founded := c.in.Founded
	c.in.Founded = 0
	c.open(i)
	c.in.Founded = founded
}

// TestLostIsRemembered: a member that has lost what it acknowledged does not
// vote at its second start either; the write that only it and a dead one had is
// not lost.
func TestLostIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opt, disks := withFaults()
		c := NewCluster(t, 3, opt)
		leader := c.Leader()
		liar, behind := (leader+1)%3, (leader+2)%3
		c.writes(leader, "all know")
		if err := c.CheckEqual(); err != nil {
			t.Fatal(err)
		}
		c.Stop(behind)
		time.Sleep(3 * time.Second) // the floor has all of that
		disks(liar).SetFault(func(o faultfs.Op) error {
			if faultfs.Of(faultfs.Syncs, "/log/")(o) {
				return faultfs.ErrSkip
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if err := c.DB(leader).TransferLeadership(ctx, c.in.Members[liar].ID); err != nil { // a new term, which the floor has
			t.Fatal(err)
		}
		c.writes(liar, "two know") // which it has not
		c.Crash(leader)
		c.in.Members[liar].FS = crashHard(c, liar)
		c.open(behind)
		c.open(liar)
		for range 3 {
			time.Sleep(10 * electionTimeout)
			if s := c.DB(liar).Status(); s.MayVote || c.DB(behind).Status().LeaderID != "" {
				t.Fatalf("it may vote: %+v", s)
			}
			c.Stop(liar)
			c.open(liar)
		}
		c.open(leader)
		c.WaitReady()
		if _, err := c.DB(behind).Get(ctx, "two know"); err != nil {
			t.Fatal(err)
		}
		c.wait("it to be whole", func() bool { return c.DB(liar).Status().MayVote })
	})
}

// TestBelowFloorTwice: what the floor tells is remembered also where it could be
// mended (the term), or where the floor itself is gone.
func TestBelowFloorTwice(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, fs disk.FS){
		"term": func(t *testing.T, fs disk.FS) { editFloor(t, fs, func(s *raftlog.FloorState) { s.Term += 3 }) },
		"gone": func(t *testing.T, fs disk.FS) {
			if err := fs.Remove("data/floor"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewCluster(t, 3)
				c.writes(0, "k")
				c.Stop(2)
				harm(t, c.in.Members[2].FS)
				c.Partition([]int{0, 1}, []int{2})
				for start := range 3 {
					c.Restart(2)
					time.Sleep(4 * electionTimeout)
					if c.DB(2).Status().MayVote {
						t.Fatalf("it may vote at start %d", start+1)
					}
					c.Stop(2)
				}
				c.Restart(2)
				c.Heal()
				c.wait("it to be whole", func() bool { return c.DB(2).Status().MayVote })
			})
		})
	}
}

func editFloor(t *testing.T, fs disk.FS, change func(*raftlog.FloorState)) {
	t.Helper()
	f, _, err := raftlog.OpenFloor(fs, "data/floor")
	if err != nil {
		t.Fatal(err)
	}
	s := f.State()
	change(&s)
	if err := errors.Join(f.Write(s), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLaggardDoesNotRefuse: a member that slept through a removal and the
// return of the id, with another directory, must not refuse the new one, which
// may lead by then.
func TestLaggardDoesNotRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 4)
		c.writes(0, "k")
		c.allKnow()
		leader := c.Leader()
		lag, again := (leader+1)%4, (leader+2)%4
		c.Stop(lag)
		c.Remove(leader, again)
		c.replace(again)
		c.wait("it to be a voter again", func() bool { return c.voter(leader, again) })
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if err := c.DB(leader).TransferLeadership(ctx, c.in.Members[again].ID); err != nil {
			t.Fatal(err)
		}
		c.Restart(lag)
		c.goesOn(again)
		c.WaitReady()
	})
}

// TestLaggardContact: a joiner whose first contact hears nothing from the leader
// finds another way in.
func TestLaggardContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 4)
		c.writes(0, "k")
		c.allKnow()
		leader := c.Leader()
		lag, again := (leader+1)%4, (leader+2)%4
		c.Cut(leader, lag)
		c.Remove(leader, again)
		c.replace(again)
		c.wait("it to be a voter again", func() bool { return c.voter(leader, again) })
		c.goesOn(again)
	})
}

// TestContactRemoved: what becomes of the contact does not become of the joiner.
func TestContactRemoved(t *testing.T) {
	for range 4 {
		synctest.Test(t, func(t *testing.T) {
			contact := ""
			c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
				if i == 3 {
					cfg.Join = []string{contact, "m0:1", "m1:1", "m2:1"}
				}
			}))
			leader := c.Leader()
			gone := (leader + 1) % 3
			contact = c.in.Members[gone].Addr
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if _, err := c.DB(leader).Remove(ctx, c.in.Members[gone].ID); err != nil {
				t.Fatal(err)
			}
			c.in.Members[gone].Out = true // it has yet to learn of it
			j := c.Join()
			c.wait("the joiner to be a voter", func() bool { return c.voter(leader, j) })
		})
	}
}

// TestJoinerNotReached: a joiner that nobody reaches is not born by itself; with
// its address corrected it joins.
func TestJoinerNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := true
		c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
			if i == 3 && wrong {
				cfg.Addr = "nowhere:1"
			}
		}))
		j := c.Join()
		time.Sleep(20 * electionTimeout)
		if s := c.DB(j).Status(); s.MayVote || s.Err != nil {
			t.Fatalf("%+v", s)
		}
		c.Stop(j)
		wrong = false
		c.Restart(j)
		c.wait("the joiner to be a voter", func() bool { return c.voter(0, j) })
	})
}

// TestBirthCountsMembers: a member that is found under two names is one.
func TestBirthCountsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Cluster
		c = assemble(t, 5, WithConfig(func(i int, cfg *replkv.Config) {
			for j := range cfg.InitialCluster {
				if cfg.InitialCluster[j].ID == "m1" {
					cfg.InitialCluster[j].Addr = "m1.local:1"
				}
			}
			if i == 1 && cfg.Addr == "m1:1" {
				cfg.InitialCluster = nil
			}
			dial := c.in.Net.Dialer(c.in.Members[i].Host())
			cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if addr == "m1.local:1" {
					addr = c.in.Members[1].Addr
				}
				return dial(ctx, addr)
			}
		}))
		c.in.Members[1].Addr = "m1.local:1"
		c.open(1)
		c.Stop(1)
		c.Move(1, "m1:1")
		c.open(0)
		c.open(1)
		time.Sleep(20 * electionTimeout)
		for i := range 2 {
			if c.DB(i).Status().MayVote {
				t.Errorf("member %d may vote with two of five up", i)
			}
		}
		for i := 2; i < 5; i++ {
			c.open(i)
		}
		c.WaitReady()
	})
}

// TestNonvoterBesideOneVoter: a non-voter that has lost something opens: the
// voter has it.
func TestNonvoterBesideOneVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 1)
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		i := c.add()
		if _, err := c.DB(0).AddNonvoter(ctx, c.in.Members[i].ID, c.in.Members[i].Addr); err != nil {
			t.Fatal(err)
		}
		c.open(i)
		c.WaitReady()
		c.knows(0, i)
		c.Stop(i)
		editFloor(t, c.in.Members[i].FS, func(s *raftlog.FloorState) { s.Index += 5 })
		c.open(i)
		c.WaitReady()
	})
}

// TestOnlyVoterBelowFloor: the only voter that has lost something does not open,
// and says what may be done; nor at the second try.
func TestOnlyVoterBelowFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 1)
		c.writes(0, "k")
		c.Stop(0)
		editFloor(t, c.in.Members[0].FS, func(s *raftlog.FloorState) { s.Index += 5 })
		for range 2 {
			if err := c.in.Open(0); !errors.Is(err, replkv.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		if err := c.in.Members[0].FS.Remove("data/floor"); err != nil {
			t.Fatal(err)
		}
		c.open(0)
		c.WaitReady()
	})
}

// TestRemovedNeverSeen: a first member that was removed before its first start
// learns it.
func TestRemovedNeverSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := assemble(t, 3)
		c.open(0)
		c.open(1)
		c.WaitReady()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if _, err := c.DB(0).Remove(ctx, "m2"); err != nil {
			t.Fatal(err)
		}
		c.in.Members[2].Out = true
		c.refuses(2, replkv.ErrRemoved, "empty directory")
	})
}

// TestAddVoterGivesUp: who is added and has not caught up in time stays, and the
// outcome says that it may yet be done.
func TestAddVoterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := true
		c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
			if i == 3 && lost {
				cfg.Join = []string{"nobody:1"}
			}
		}))
		i := c.add()
		c.open(i)
		ctx, cancel := context.WithTimeout(t.Context(), 4*electionTimeout)
		defer cancel()
		_, err := c.DB(1).AddVoter(ctx, "m3", "m3:1")
		if !errors.Is(err, replkv.ErrUnsafeChange) || replkv.OutcomeOf(err) != replkv.OutcomeUnknown || !strings.Contains(err.Error(), "not yet") {
			t.Errorf("%v, outcome %v", err, replkv.OutcomeOf(err))
		}
		if m, in := c.tableBy(0).Find("m3"); !in || !m.Nonvoter {
			t.Errorf("%+v, %v", m, in)
		}
		c.Stop(i)
		lost = false
		c.Restart(i)
		c.wait("it to be a voter", func() bool { return c.voter(0, i) })
	})
}

// TestSwapAddresses: members that have taken each other's addresses are found;
// the table cannot say so at once.
func TestSwapAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		c.writes(0, "k")
		for i := range 3 {
			c.Stop(i)
		}
		c.Move(1, "m2:1")
		c.Move(2, "m1:1")
		for range 3 {
			for i := range 3 {
				c.open(i)
			}
			c.WaitReady()
			c.writes(0, "k2")
			for i := range 3 {
				c.Crash(i)
			}
		}
	})
}
