package replkvtest

import (
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
)

// Cluster is a cluster in memory. Members are numbered from 0. Its methods are
// for the test's goroutine; the stores may be used from any.
type Cluster struct {
	t       testing.TB
	in      *cluster.Cluster
	wrap    func(i int, fs disk.FS) disk.FS // puts faults before a member's disk
	config  func(i int, cfg *replkv.Config)
	planted bool // a test of ourselves: tolerate the planted difference
}

// Option changes a cluster before it starts.
type Option func(*Cluster)

// WithConfig lets a test change the configuration of member i before each time
// it opens.
func WithConfig(change func(i int, cfg *replkv.Config)) Option {
	return func(c *Cluster) { c.config = change }
}

const (
	timeout         = cluster.Timeout
	electionTimeout = cluster.ElectionTimeout
)

// NewCluster starts a cluster of n voters and waits until all are ready. When
// the test ends it heals the network, restarts what is down, checks that all
// members hold equal data, closes them, and checks that nothing is left.
func NewCluster(t testing.TB, n int, opts ...Option) *Cluster {
	t.Helper()
	c := assemble(t, n, opts...)
	for i := range n {
		c.open(i)
	}
	c.WaitReady()
	return c
}

// assemble makes a cluster whose members are all down.
func assemble(t testing.TB, n int, opts ...Option) *Cluster {
	c := &Cluster{t: t, in: cluster.New(n)}
	for _, o := range opts {
		o(c)
	}
	c.in.Config = func(i int, cfg *replkv.Config) {
		if c.config != nil {
			c.config(i, cfg)
		}
	}
	c.in.Edges = func(i int, e *hook.Edges) {
		if c.wrap != nil {
			e.FS = c.wrap(i, e.FS)
		}
	}
	t.Cleanup(c.finish)
	return c
}

// add makes room for a member.
func (c *Cluster) add() int { return c.in.Add() }

// Join starts a new member that joins through those that are up, and returns
// its number. It does not wait until the member is ready.
func (c *Cluster) Join() int {
	c.t.Helper()
	i := c.add()
	c.open(i)
	return i
}

// Remove takes member i out of the cluster, through member by, and waits until
// it has learned of it and stopped. A member that is down stays down.
func (c *Cluster) Remove(by, i int) {
	c.t.Helper()
	if err := c.in.Remove(by, i); err != nil {
		c.t.Fatalf("replkvtest: Remove of member %d: %v", i, err)
	}
}

// Move gives member i, which is down, another address for its next start.
func (c *Cluster) Move(i int, addr string) {
	c.t.Helper()
	if !c.in.Members[i].Down {
		c.t.Fatalf("replkvtest: Move: member %d is up", i)
	}
	c.in.Members[i].Addr = addr
}

func (c *Cluster) open(i int) {
	c.t.Helper()
	if err := c.in.Open(i); err != nil {
		c.t.Fatalf("replkvtest: member %d: %v", i, err)
	}
}

// Len returns the number of members.
func (c *Cluster) Len() int { return c.in.Len() }

// DB returns member i. After a Restart it is another handle.
func (c *Cluster) DB(i int) *replkv.DB { return c.in.DB(i) }

// WaitReady waits until every member that is up is ready.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	if err := c.in.Ready(); err != nil {
		c.t.Fatalf("replkvtest: %v", err)
	}
}

// Leader waits for a leader that a majority follows and returns its number.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader, ok := 0, false
	c.wait("a leader", func() bool {
		leader, ok = c.in.LeaderNow()
		return ok
	})
	return leader
}

// wait polls a condition.
func (c *Cluster) wait(what string, ok func() bool) {
	c.t.Helper()
	if err := cluster.Poll(ok); err != nil {
		c.t.Fatalf("replkvtest: waiting for %s: %v", what, err)
	}
}

// Partition splits the network: only members of one group reach each other. A
// member in no group reaches nobody.
func (c *Cluster) Partition(groups ...[]int) { c.in.Partition(groups...) }

// Cut holds back everything that member from sends to member to, in this one
// direction.
func (c *Cluster) Cut(from, to int) { c.in.Cut(from, to) }

// Delay makes everything that member from sends to member to arrive d later.
func (c *Cluster) Delay(from, to int, d time.Duration) { c.in.Delay(from, to, d) }

// Heal ends all partitions and cuts.
func (c *Cluster) Heal() { c.in.Net.Heal() }

// Crash ends member i as a power loss would: what was not synced may be gone.
func (c *Cluster) Crash(i int) {
	c.t.Helper()
	if c.in.Members[i].Down {
		c.t.Fatalf("replkvtest: Crash: member %d is down already", i)
	}
	c.in.Crash(i)
}

// Stop shuts member i down in good order.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	if err := c.in.Stop(i); err != nil {
		c.t.Errorf("replkvtest: Shutdown of member %d: %v", i, err)
	}
}

// Restart opens member i again on what its disk holds. It does not wait until
// the member is ready.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	if !c.in.Members[i].Down {
		c.t.Fatalf("replkvtest: Restart: member %d is up", i)
	}
	c.open(i)
}

// finish is what every test of a cluster ends with.
func (c *Cluster) finish() {
	c.t.Helper()
	c.in.Net.Heal()
	if err := c.CheckEqual(); err != nil && !c.planted {
		c.t.Errorf("replkvtest: %v", err)
	}
	if err := c.in.Close(); err != nil {
		c.t.Errorf("replkvtest: %v", err)
	}
}

// CheckEqual restarts members that are down, waits until all have applied the
// same entry, and compares their data, revision by revision of the newest, and
// the hashes of the effects of everything they applied.
func (c *Cluster) CheckEqual() error { return c.in.CheckEqual() }

// CheckEqual fails the test unless the members, of one cluster wherever it
// runs, come to the same applied entry and hold equal data. Nobody may write
// meanwhile.
func CheckEqual(t testing.TB, dbs ...*replkv.DB) {
	t.Helper()
	if err := cluster.Equal(dbs); err != nil {
		t.Errorf("replkvtest: %v", err)
	}
}
