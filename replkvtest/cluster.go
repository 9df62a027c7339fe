package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/transport/memnet"
)

// Cluster is a cluster in memory. Members are numbered from 0. Its methods are
// for the test's goroutine; the stores may be used from any.
type Cluster struct {
	t       testing.TB
	net     *memnet.Network
	table   []replkv.Member // where each member is, or will be when it restarts
	founded int             // the first so many are InitialCluster
	members []*member
	config  func(i int, cfg *replkv.Config)
	wrap    func(i int, fs disk.FS) disk.FS // puts faults before a member's disk
	crashes uint64
	planted bool // a test of ourselves: tolerate the planted difference
}

type member struct {
	fs   *disk.Mem
	db   *replkv.DB // the newest; closed while down
	down bool
	out  bool // removed: nothing is expected of it
}

// Option changes a cluster before it starts.
type Option func(*Cluster)

// WithConfig lets a test change the configuration of member i before each time
// it opens.
func WithConfig(change func(i int, cfg *replkv.Config)) Option {
	return func(c *Cluster) { c.config = change }
}

// timeout bounds what the cluster waits for. Generous: it only ends tests that
// fail.
const timeout = 30 * time.Second

// electionTimeout makes a cluster ready in well under a second.
const electionTimeout = 250 * time.Millisecond

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
	c := &Cluster{t: t, net: memnet.New()}
	for _, o := range opts {
		o(c)
	}
	for range n {
		c.add()
	}
	c.founded = n
	t.Cleanup(c.finish)
	return c
}

// add makes room for a member.
func (c *Cluster) add() int {
	i := len(c.members)
	c.table = append(c.table, replkv.Member{ID: fmt.Sprintf("m%d", i), Addr: fmt.Sprintf("m%d:1", i)})
	c.members = append(c.members, &member{fs: disk.NewMem(), down: true})
	return i
}

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
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := c.DB(by).Remove(ctx, c.table[i].ID); err != nil {
		c.t.Fatalf("replkvtest: Remove of member %d: %v", i, err)
	}
	m := c.members[i]
	m.out = true
	if m.down {
		return
	}
	select {
	case <-m.db.Done():
	case <-ctx.Done():
		c.t.Fatalf("replkvtest: member %d does not learn that it was removed: %+v", i, m.db.Status())
	}
	if err := m.db.Err(); !errors.Is(err, replkv.ErrRemoved) {
		c.t.Errorf("replkvtest: the removed member %d says %v", i, err)
	}
}

// Move gives member i, which is down, another address for its next start.
func (c *Cluster) Move(i int, addr string) {
	c.t.Helper()
	if !c.members[i].down {
		c.t.Fatalf("replkvtest: Move: member %d is up", i)
	}
	c.table[i].Addr = addr
}

func (c *Cluster) open(i int) {
	c.t.Helper()
	if err := c.tryOpen(i); err != nil {
		c.t.Fatalf("replkvtest: member %d: %v", i, err)
	}
}

func (c *Cluster) tryOpen(i int) error {
	m := c.members[i]
	host := c.host(i)
	c.net.Revive(host)
	l, err := c.net.Listen(c.table[i].Addr)
	if err != nil {
		return err
	}
	cfg := replkv.Config{Dir: "data", ID: c.table[i].ID, Addr: c.table[i].Addr, Listener: l, Dial: c.net.Dialer(host),
		InsecurePeers: true, ElectionTimeout: electionTimeout}
	if i < c.founded {
		cfg.InitialCluster = slices.Clone(c.table[:c.founded])
	} else {
		for j, other := range c.table {
			if j != i && !c.members[j].out {
				cfg.Join = append(cfg.Join, other.Addr)
			}
		}
	}
	if c.config != nil {
		c.config(i, &cfg)
	}
	edges := hook.Edges{FS: m.fs}
	if c.wrap != nil {
		edges.FS = c.wrap(i, m.fs)
	}
	v, err := hook.Open(cfg, edges)
	if err != nil {
		l.Close()
		return err
	}
	m.db, m.down = v.(*replkv.DB), false
	return nil
}

// host is where member i runs, as the network knows it.
func (c *Cluster) host(i int) string {
	host, _, _ := net.SplitHostPort(c.table[i].Addr)
	return host
}

// Len returns the number of members.
func (c *Cluster) Len() int { return len(c.members) }

// DB returns member i. After a Restart it is another handle.
func (c *Cluster) DB(i int) *replkv.DB { return c.members[i].db }

// WaitReady waits until every member that is up is ready.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i, m := range c.members {
		if m.down || m.out {
			continue
		}
		if err := m.db.Ready(ctx); err != nil {
			c.t.Fatalf("replkvtest: member %d does not become ready: %v", i, err)
		}
	}
}

// Leader waits for a leader that a majority follows and returns its number.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	c.wait("a leader", func() bool {
		votes := map[string]int{}
		for _, m := range c.members {
			if !m.down && !m.out {
				votes[m.db.Status().LeaderID]++
			}
		}
		for i, m := range c.members {
			if !m.down && !m.out && votes[c.table[i].ID] > c.in()/2 && m.db.Status().Role == "leader" {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// in counts the members that were not removed.
func (c *Cluster) in() int {
	n := 0
	for _, m := range c.members {
		if !m.out {
			n++
		}
	}
	return n
}

// wait polls a condition.
func (c *Cluster) wait(what string, ok func() bool) {
	c.t.Helper()
	if err := poll(ok); err != nil {
		c.t.Fatalf("replkvtest: waiting for %s: %v", what, err)
	}
}

func poll(ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); !ok(); {
		if time.Now().After(end) {
			return fmt.Errorf("not within %v", timeout)
		}
		<-tick.C
	}
	return nil
}

// Partition splits the network: only members of one group reach each other. A
// member in no group reaches nobody.
func (c *Cluster) Partition(groups ...[]int) {
	hosts := make([][]string, len(groups))
	named := map[int]bool{}
	for g, group := range groups {
		for _, i := range group {
			hosts[g] = append(hosts[g], c.host(i))
			named[i] = true
		}
	}
	for i := range c.members {
		if !named[i] {
			hosts = append(hosts, []string{c.host(i)})
		}
	}
	c.net.Partition(hosts...)
}

// Cut holds back everything that member from sends to member to, in this one
// direction.
func (c *Cluster) Cut(from, to int) { c.net.Cut(c.host(from), c.host(to)) }

// Delay makes everything that member from sends to member to arrive d later.
func (c *Cluster) Delay(from, to int, d time.Duration) {
	c.net.Delay(c.host(from), c.host(to), d)
}

// Heal ends all partitions and cuts.
func (c *Cluster) Heal() { c.net.Heal() }

// Crash ends member i as a power loss would: what was not synced may be gone.
func (c *Cluster) Crash(i int) {
	c.t.Helper()
	m := c.members[i]
	if m.down {
		c.t.Fatalf("replkvtest: Crash: member %d is down already", i)
	}
	// First the network, then the disk: nothing that happens on a dead machine
	// may be seen. The old handle ends on the old disk.
	c.net.Kill(c.host(i))
	c.crashes++
	m.fs = disk.Crash(m.fs, c.crashes)
	m.down = true
	m.db.Close()
}

// Stop shuts member i down in good order.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	m := c.members[i]
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := m.db.Shutdown(ctx); err != nil {
		c.t.Errorf("replkvtest: Shutdown of member %d: %v", i, err)
	}
	m.down = true
}

// Restart opens member i again on what its disk holds. It does not wait until
// the member is ready.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	if !c.members[i].down {
		c.t.Fatalf("replkvtest: Restart: member %d is up", i)
	}
	c.open(i)
}
