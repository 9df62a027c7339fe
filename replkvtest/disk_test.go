package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// withFaults puts a faultfs before each member's disk; faults returns the one
// of its newest start.
func withFaults() (Option, func(i int) *faultfs.FS) {
	by := map[int]*faultfs.FS{}
	return func(c *Cluster) {
		c.wrap = func(i int, fs disk.FS) disk.FS {
			by[i] = faultfs.New(fs)
			return by[i]
		}
	}, func(i int) *faultfs.FS { return by[i] }
}

// TestDiskHangs: the disk under the leader does not answer any more. It gives up
// once the write deadline is over, and another leads; the process lives on, and
// when the disk is back it works again.
func TestDiskHangs(t *testing.T) {
	for _, what := range []string{"log", "everything"} {
		t.Run(what, func(t *testing.T) { diskHangs(t, what) })
	}
}

func diskHangs(t *testing.T, what string) {
	const deadline = time.Second
	opt, disks := withFaults()
	var mu sync.Mutex
	var stalls []replkv.StallEvent
	c := NewCluster(t, 3, opt, WithConfig(func(_ int, cfg *replkv.Config) {
		cfg.WriteDeadline = deadline
		cfg.Events.DiskStalled = func(e replkv.StallEvent) {
			mu.Lock()
			defer mu.Unlock()
			stalls = append(stalls, e)
		}
	}))
	leader := c.Leader()
	c.writes(leader, "before")
	part := ""
	if what == "log" {
		part = "/log/"
	}
	hang := faultfs.NewHang(faultfs.Of(faultfs.Mutating, part))
	disks(leader).SetFault(hang.Fault)
	began := time.Now()
	other := (leader + 1) % 3
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), electionTimeout)
		_, err := c.DB(other).Set(ctx, fmt.Sprintf("during/%d", i), nil)
		cancel()
		if err == nil && c.DB(leader).Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("no write succeeds: %v; the old leader: %+v", err, c.DB(leader).Status())
		}
	}
	after := time.Since(began) - deadline
	t.Logf("the first write succeeded %v after the write deadline of %v", after, deadline)
	if after > 4*electionTimeout {
		t.Errorf("more than 4 election timeouts")
	}
	select {
	case <-c.DB(leader).Done():
	default:
		t.Error("the old leader is not done")
	}
	if err := c.DB(leader).Err(); !errors.Is(err, raftlog.ErrStalled) {
		t.Errorf("it says %v", err)
	}
	if s := c.DB(leader).Status(); s.Role != "stopped" || s.Disk != "failed" {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	if len(stalls) == 0 || stalls[0].For < electionTimeout || stalls[0].For > deadline {
		t.Errorf("it told of %v", stalls)
	}
	mu.Unlock()
	hang.Release()
	c.DB(leader).Close()
	// Another process, on what reached the disk: in this one the engine that hung
	// keeps its files.
	c.in.Members[leader].FS, c.in.Members[leader].Down = disk.Crash(c.in.Members[leader].FS, 0), true
	c.Restart(leader)
	c.WaitReady()
	c.writes(leader, "after")
}

// TestDiskFails: a member whose disk answers EIO or ENOSPC, wherever, stops with
// that error; the others go on, and it goes on too once the disk is all right.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, part := range []string{"/log/", "/state/", "floor"} {
			if testing.Short() && (cause == syscall.EIO) != (part == "/log/") {
				continue
			}
			t.Run(fmt.Sprintf("%v %s", cause, strings.Trim(part, "/")), func(t *testing.T) { diskFails(t, cause, part) })
		}
	}
}

// tinyLogs make a snapshot of a few small writes: slow machines make no more.
func tinyLogs(_ int, cfg *replkv.Config) {
	cfg.SnapshotLogBytes, cfg.TrailingLogBytes = 32<<10, 16<<10
}

func diskFails(t *testing.T, cause error, part string) {
	opt, disks := withFaults()
	c := NewCluster(t, 3, opt, WithConfig(tinyLogs)) // the state is written by snapshots only
	l := startLoad(c)
	l.passes(100)
	victim := c.Leader()
	disks(victim).SetFault(faultfs.Fail(cause, faultfs.Of(faultfs.Write|faultfs.Syncs|faultfs.Create|faultfs.OpenWrite|faultfs.Reuse, part)))
	c.wait("the member to stop", func() bool { return c.DB(victim).Err() != nil })
	if err := c.DB(victim).Err(); !errors.Is(err, cause) {
		t.Errorf("it says %v, the disk said %v", err, cause)
	}
	select {
	case <-c.DB(victim).Done():
	default:
		t.Error("it is not done")
	}
	l.passes(100)
	l.mu.Lock()
	disks(victim).SetFault(nil)
	c.DB(victim).Close()
	c.in.Members[victim].FS, c.in.Members[victim].Down = disk.Crash(c.in.Members[victim].FS, 0), true
	c.Restart(victim)
	l.mu.Unlock()
	c.WaitReady()
	l.passes(100)
	l.finish()
}

// TestBelowFloor: a member that has lost the end of its log, which its disk said
// was safe, neither votes nor campaigns until it has caught up.
func TestBelowFloor(t *testing.T) {
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
		// From now on the liar's log is not safe, whatever its disk says.
		disks(liar).SetFault(func(o faultfs.Op) error {
			if faultfs.Of(faultfs.Syncs, "/log/")(o) {
				return faultfs.ErrSkip
			}
			return nil
		})
		c.writes(leader, "two know")
		time.Sleep(3 * time.Second) // the floor follows within one
		c.Crash(leader)
		c.in.Members[liar].FS = crashHard(c, liar)
		c.open(behind)
		c.open(liar)
		for end := time.Now().Add(20 * electionTimeout); time.Now().Before(end); time.Sleep(electionTimeout) {
			if s := c.DB(behind).Status(); s.LeaderID != "" {
				t.Fatalf("%s leads without the newest write", s.LeaderID)
			}
		}
		s := c.DB(liar).Status()
		if s.MayVote {
			t.Fatalf("it may vote: %+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := c.DB(liar).Ready(ctx); err == nil || !strings.Contains(err.Error(), "lost what it had acknowledged") {
			t.Errorf("Ready says %v", err)
		}
		c.open(leader)
		c.WaitReady()
		c.wait("it to be whole", func() bool { return c.DB(liar).Status().MayVote })
		ctx, cancel = context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if _, err := c.DB(liar).Get(ctx, "two know"); err != nil {
			t.Fatal(err)
		}
	})
}

// crashHard ends a member as Crash does, and loses all that was not synced.
func crashHard(c *Cluster, i int) *disk.Mem {
	c.in.Net.Kill(c.in.Members[i].Host())
	fs := disk.CrashHard(c.in.Members[i].FS)
	c.in.Members[i].Down = true
	c.DB(i).Close()
	return fs
}

// TestWatching: status, counts, events and health tell what happens.
func TestWatching(t *testing.T) {
	events := make([]chan string, 4)
	for i := range events {
		events[i] = make(chan string, 1000)
	}
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		tinyLogs(i, cfg)
		tell := func(format string, args ...any) { events[i] <- fmt.Sprintf(format, args...) }
		cfg.Events = replkv.EventListener{
			LeaderChanged:     func(e replkv.Election) { tell("leader %s", e.LeaderID) },
			MembershipChanged: func(m replkv.Membership) { tell("members %d voters %d", len(m.Members), m.Voters()) },
			SnapshotTaken:     func(e replkv.SnapshotEvent) { tell("taken %v", e.Err) },
			SnapshotSent:      func(e replkv.SnapshotEvent) { tell("sent to %s %v", e.Peer, e.Err) },
			SnapshotInstalled: func(e replkv.SnapshotEvent) { tell("installed %v", e.Bytes > 0) },
			Stopped:           func(err error) { tell("stopped %v", err) },
		}
	}))
	expect := func(i int, want string) {
		t.Helper()
		deadline := time.After(timeout)
		for {
			select {
			case got := <-events[i]:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("member %d does not tell %q", i, want)
			}
		}
	}
	leader := c.Leader()
	took := leader // snapshots
	c.reads(took)
	for i := range 3 {
		expect(i, "members 3 voters 3")
	}
	l := startLoad(c)
	l.passes(2000)
	expect(leader, "taken <nil>")
	l.mu.Lock()
	j := c.Join()
	l.mu.Unlock()
	expect(j, "members 4 voters 3")
	c.wait("it to be a voter", func() bool { return c.voter(leader, j) })
	expect(leader, "members 4 voters 4")
	l.finish()
	if err := c.CheckEqual(); err != nil {
		t.Fatal(err)
	}

	leader = c.Leader() // a slow machine elects another now and then
	c.reads(leader)
	c.wait("the leader to know where the others are", func() bool {
		s := c.DB(leader).Status()
		return !slices.ContainsFunc(s.Members, func(m replkv.MemberStatus) bool { return m.MatchIndex != s.LastLogIndex })
	})
	s := c.DB(leader).Status()
	if s.Role != "leader" || s.Disk != "ok" || !s.MayVote || s.MembershipIndex == 0 || s.LogBytes == 0 || s.StateBytes == 0 ||
		s.LastElection.LeaderID != s.ID || s.LastElection.Reason == "" || time.Since(s.LastContact) > time.Minute {
		t.Errorf("%+v", s)
	}
	for _, m := range s.Members {
		if m.Lag != 0 || m.MatchIndex != s.LastLogIndex || m.LastError != nil || time.Since(m.LastContact) > time.Minute {
			t.Errorf("%+v", m)
		}
	}
	f := c.DB((leader + 1) % 4).Status()
	if f.Role != "follower" || f.LeaderID != s.ID || f.LastContact.IsZero() {
		t.Errorf("%+v", f)
	}
	m := c.DB(took).Metrics()
	if m.Writes < 200 || m.Entries == 0 || m.EntryBytes == 0 || m.Batches == 0 || m.Applied < 50 || m.AppliedBytes == 0 || m.ReadRounds == 0 ||
		m.Reads == 0 || m.SnapshotsTaken == 0 || m.LeaderChanges == 0 || sum(m.WriteLatency.Counts) != m.Writes || sum(m.SyncLatency.Counts) == 0 || m.SyncLatency.Sum <= 0 {
		t.Errorf("%+v", m)
	}
	c.Stop(j)
	expect(j, "stopped <nil>")
	c.Restart(j)
}

// reads makes member i read, and so know that it leads, or who does.
func (c *Cluster) reads(i int) {
	c.t.Helper()
	if _, err := c.DB(i).Get(c.t.Context(), "none"); !errors.Is(err, replkv.ErrNotFound) {
		c.t.Fatal(err)
	}
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}
