package replkvtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// refuses opens member i, which should not be let in, waits until it stops with
// want and a message that says what to do, and checks that it does not open
// again.
func (c *Cluster) refuses(i int, want error, say string) {
	c.t.Helper()
	m := c.in.Members[i]
	if m.Down { // it may learn so before Open returns
		if err := c.in.Open(i); errors.Is(err, want) && strings.Contains(err.Error(), say) {
			return
		} else if err != nil {
			c.t.Fatalf("member %d: %v", i, err)
		}
	}
	select {
	case <-m.DB().Done():
	case <-time.After(timeout):
		c.t.Fatalf("member %d is not refused: %+v", i, m.DB().Status())
	}
	if err := m.DB().Err(); !errors.Is(err, want) || !strings.Contains(err.Error(), say) {
		c.t.Errorf("member %d stopped with %q, want %q and %q", i, err, want, say)
	}
	if err := m.DB().Close(); err != nil {
		c.t.Error(err)
	}
	m.Down = true
	if want != replkv.ErrWrongCluster {
		if err := c.in.Open(i); !errors.Is(err, want) {
			c.t.Errorf("the refused directory opens again: %v", err)
		}
	}
}

// writes makes the others go on, and the refused member's absence harmless.
func (c *Cluster) writes(by int, key string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := c.DB(by).Set(ctx, key, nil); err != nil {
		c.t.Fatal(err)
	}
}

// TestWipedMember: an empty directory under a known id must not vote: it would
// have forgotten what its predecessor acknowledged. Removed first, it may join.
func TestWipedMember(t *testing.T) {
	c := NewCluster(t, 3)
	c.writes(0, "before")
	c.knows(0, 2) // before that, nobody could tell another directory from it
	c.knows(1, 2)
	c.Crash(2)
	c.in.Members[2].FS = disk.NewMem()
	c.refuses(2, replkv.ErrStaleIdentity, "remove m2")
	c.writes(0, "after")

	// As a joiner under its old id it is refused, too, until it was removed.
	c.in.Founded = 2
	c.in.Members[2].FS = disk.NewMem()
	c.refuses(2, replkv.ErrStaleIdentity, "remove m2")
	c.Remove(0, 2)
	c.in.Members[2].FS, c.in.Members[2].Out = disk.NewMem(), false
	c.open(2)
	c.wait("it to be a voter", func() bool { return c.voter(0, 2) })
}

// TestWipedVoterDoesNotElect: two of three acknowledged a write; one of them
// loses its disk, the other dies. The third, which lacks the write, must not be
// elected by the wiped one: the write waits for the other to come back. Whether
// the third knew the wiped one's directory (it was stopped in good order), or
// forgot (it crashed, and finds no leader to learn it from again).
func TestWipedVoterDoesNotElect(t *testing.T) {
	for name, end := range map[string]func(c *Cluster, i int){"stopped": (*Cluster).Stop, "crashed": (*Cluster).Crash} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { wipedVoter(t, end) })
		})
	}
}

func wipedVoter(t *testing.T, end func(c *Cluster, i int)) {
	c := NewCluster(t, 3)
	leader := c.Leader()
	behind, wiped := (leader+1)%3, (leader+2)%3
	c.writes(leader, "all know")
	if err := c.CheckEqual(); err != nil {
		t.Fatal(err)
	}
	end(c, behind)
	c.writes(leader, "two know")
	c.Crash(leader)
	c.Crash(wiped)
	c.in.Members[wiped].FS = disk.NewMem()
	c.open(behind)
	c.in.Open(wiped)
	for end := time.Now().Add(20 * electionTimeout); time.Now().Before(end); time.Sleep(electionTimeout) {
		if s := c.DB(behind).Status(); s.LeaderID != "" {
			t.Fatalf("%s leads without the newest write", s.LeaderID)
		}
	}
	c.open(leader)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, err := c.DB(behind).Get(ctx, "two know"); err != nil {
		t.Fatal(err)
	}
	c.refuses(wiped, replkv.ErrStaleIdentity, "if")
	c.Remove(leader, wiped)
}

// TestCopiedDirectory: two processes with one directory's content. The first to
// make itself known is the member; the other is refused.
func TestCopiedDirectory(t *testing.T) {
	c := NewCluster(t, 3)
	c.writes(0, "k")
	c.Stop(2)
	copied := disk.Crash(c.in.Members[2].FS, 0) // all is synced
	c.Restart(2)
	c.WaitReady()
	c.knows(0, 2)

	// It runs elsewhere, beside the right one.
	twin := c.add()
	c.in.Members[twin].ID, c.in.Members[twin].FS, c.in.Members[twin].Out = "m2", copied, true
	c.refuses(twin, replkv.ErrStaleIdentity, "copy, or was restored from a backup")
	if err := c.DB(2).Err(); err != nil {
		t.Fatal(err)
	}
	c.writes(2, "after")
}

// knows waits until member by has applied the present start of member i.
func (c *Cluster) knows(by, i int) {
	c.t.Helper()
	c.wait("a start to be known", func() bool { return hook.Inspect(c.DB(by)).Knows(c.DB(i)) })
}

// TestRolledBackDirectory: a directory restored from a backup lacks what the
// member acknowledged since, however often it is started before anybody sees it.
func TestRolledBackDirectory(t *testing.T) {
	c := NewCluster(t, 3)
	c.writes(0, "old")
	c.Stop(2)
	backup := disk.Crash(c.in.Members[2].FS, 0)
	c.Restart(2)
	c.WaitReady()
	c.knows(0, 2)
	c.writes(2, "new")

	c.Crash(2)
	c.in.Members[2].FS = backup
	c.Partition([]int{0, 1}, []int{2})
	for range 5 {
		c.Restart(2)
		c.Stop(2)
	}
	c.Heal()
	c.refuses(2, replkv.ErrStaleIdentity, "restored from a backup")
	c.writes(0, "after")
	c.Remove(0, 2)
}

// TestSecondProcess: a directory is one process's.
func TestSecondProcess(t *testing.T) {
	c := NewCluster(t, 1)
	_, err := hook.Open(replkv.Config{Dir: "data", ID: "m0", Addr: "other:1", InsecurePeers: true}, hook.Edges{FS: c.in.Members[0].FS})
	if !errors.Is(err, replkv.ErrDirLocked) {
		t.Fatal(err)
	}
	c.writes(0, "k")
}

// TestOtherCluster: who founds another cluster at the door of a running one is
// told so, and stops; so is a joiner with a wrong token. The cluster goes on.
func TestOtherCluster(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		cfg.ClusterToken = "right"
		if i >= 3 {
			cfg.ClusterToken = "wrong"
		}
	}))
	c.writes(0, "k")
	// "node 4 <the others>" without -join: a table of four.
	i := c.add()
	c.in.Members[i].Out = true
	c.in.Founded = 4
	c.refuses(i, replkv.ErrWrongCluster, "join that cluster")
	c.in.Founded = 3

	j := c.add()
	c.in.Members[j].Out = true
	c.refuses(j, replkv.ErrWrongCluster, "ClusterToken")
	c.writes(1, "after")
	if m := c.tableBy(0); len(m.Members) != 3 {
		t.Fatalf("%+v", m)
	}
}

// TestRemovedDirectory: a removed member's directory is refused for ever, also
// if it was away when it was removed, and though its id is in use again.
func TestRemovedDirectory(t *testing.T) {
	c := NewCluster(t, 3)
	c.writes(0, "k")
	c.knows(0, 2)
	c.Crash(2)
	old := c.in.Members[2].FS
	c.Remove(0, 2)
	c.refuses(2, replkv.ErrRemoved, "empty directory")

	c.in.Founded = 2
	c.in.Members[2].FS, c.in.Members[2].Out = disk.NewMem(), false
	c.open(2)
	c.wait("its successor to be a voter", func() bool { return c.voter(0, 2) })
	c.Stop(2)
	fresh := c.in.Members[2].FS
	c.in.Members[2].FS = old
	if err := c.in.Open(2); !errors.Is(err, replkv.ErrRemoved) {
		t.Fatal(err)
	}
	c.in.Members[2].FS = fresh
}
