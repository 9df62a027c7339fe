// Package cluster runs the members of a cluster in memory, on disks that can crash
// and a network that can be cut. Tests (package replkvtest) and the simulation
// (internal/sim) drive it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/transport/memnet"
)

// Timeout bounds what the cluster waits for. Generous: it only ends tests that fail.
const Timeout = 30 * time.Second

// ElectionTimeout makes a cluster ready in well under a second.
const ElectionTimeout = 250 * time.Millisecond

// Cluster is a cluster in memory. Members are numbered from 0. What changes a member
// is for one goroutine; DB and Pick are for any.
type Cluster struct {
	Net     *memnet.Network
	Founded int // the first so many are InitialCluster

	// Config and Edges, if set, change what a member is opened with, before each
	// time it is.
	Config func(i int, cfg *replkv.Config)
	Edges  func(i int, e *hook.Edges)

	mu      sync.RWMutex // protects the slice; its owner reads it without
	Members []*Member

	crashes uint64
}

// Member is a member, up or not.
type Member struct {
	ID   string
	Addr string // where it is, or will be when it restarts
	FS   *disk.Mem
	Down bool
	Out  bool // removed: nothing is expected of it

	db atomic.Pointer[replkv.DB]
}

// DB is the newest handle, closed while the member is down; nil before its first start.
func (m *Member) DB() *replkv.DB { return m.db.Load() }

// Host is where the member runs, as the network knows it.
func (m *Member) Host() string {
	host, _, _ := net.SplitHostPort(m.Addr)
	return host
}

// New makes a cluster of n first members that are all down.
func New(n int) *Cluster {
	c := &Cluster{Net: memnet.New(), Founded: n}
	for range n {
		c.Add()
	}
	return c
}

// Add makes room for a member, which is down, and returns its number.
func (c *Cluster) Add() int {
	i := len(c.Members)
	m := &Member{ID: fmt.Sprintf("m%d", i), Addr: fmt.Sprintf("m%d:1", i), FS: disk.NewMem(), Down: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Members = append(c.Members, m)
	return i
}

// DB returns member i's newest handle.
func (c *Cluster) DB(i int) *replkv.DB { return c.At(i).DB() }

// At returns member i.
func (c *Cluster) At(i int) *Member {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Members[i]
}

// Len returns the number of members there have been.
func (c *Cluster) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.Members)
}

// Open starts member i on what its disk holds.
func (c *Cluster) Open(i int) error {
	m := c.Members[i]
	c.Net.Revive(m.Host())
	l, err := c.Net.Listen(m.Addr)
	if err != nil {
		return err
	}
	cfg, edges := c.config(i)
	cfg.Listener = l
	v, err := hook.Open(cfg, edges)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	m.db.Store(v.(*replkv.DB))
	m.Down = false
	return nil
}

// Restore makes the disk of member i, which is down and new, hold what a backup does.
func (c *Cluster) Restore(i int, backup io.Reader) error {
	cfg, edges := c.config(i)
	_, err := replkv.Restore(context.Background(), hook.WithEdges(cfg, edges).(replkv.Config), backup)
	return err
}

// config is what member i is opened with.
func (c *Cluster) config(i int) (replkv.Config, hook.Edges) {
	m := c.Members[i]
	cfg := replkv.Config{Dir: "data", ID: m.ID, Addr: m.Addr, Dial: c.Net.Dialer(m.Host()),
		InsecurePeers: true, ElectionTimeout: ElectionTimeout}
	if i < c.Founded {
		for _, first := range c.Members[:c.Founded] {
			cfg.InitialCluster = append(cfg.InitialCluster, replkv.Member{ID: first.ID, Addr: first.Addr})
		}
	} else {
		for j, other := range c.Members {
			if j != i && !other.Out {
				cfg.Join = append(cfg.Join, other.Addr)
			}
		}
	}
	if c.Config != nil {
		c.Config(i, &cfg)
	}
	edges := hook.Edges{FS: m.FS}
	if c.Edges != nil {
		c.Edges(i, &edges)
	}
	return cfg, edges
}

// Crash ends member i, which is up, as a power loss would: what was not synced may be
// gone.
func (c *Cluster) Crash(i int) {
	c.crashes++
	seed := c.crashes
	c.CrashTo(i, func(fs *disk.Mem) *disk.Mem { return disk.Crash(fs, seed) })
}

// CrashTo is a Crash after which the disk holds what left makes of it.
func (c *Cluster) CrashTo(i int, left func(*disk.Mem) *disk.Mem) {
	m := c.Members[i]
	// First the network, then the disk: nothing that happens on a dead machine
	// may be seen. The old handle ends on the old disk.
	c.Net.Kill(m.Host())
	m.FS = left(m.FS)
	m.Down = true
	_ = m.DB().Close() // on the old disk: nobody asks how it went
}

// Stop shuts member i down in good order.
func (c *Cluster) Stop(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	m := c.Members[i]
	err := m.DB().Shutdown(ctx)
	m.Down = true
	return err
}

// Remove takes member i out of the cluster, through member by, and waits until it has
// learned of it and stopped. A member that is down stays down.
func (c *Cluster) Remove(by, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	m := c.Members[i]
	if _, err := c.DB(by).Remove(ctx, m.ID); err != nil {
		return err
	}
	m.Out = true
	if m.Down {
		return nil
	}
	select {
	case <-m.DB().Done():
	case <-ctx.Done():
		return fmt.Errorf("member %d does not learn that it was removed: %+v", i, m.DB().Status())
	}
	if err := m.DB().Err(); !errors.Is(err, replkv.ErrRemoved) {
		return fmt.Errorf("the removed member %d says %w", i, err)
	}
	return nil
}

// Up are the members that run.
func (c *Cluster) Up() (up []int) {
	for i, m := range c.Members {
		if !m.Down && !m.Out {
			up = append(up, i)
		}
	}
	return up
}

// In counts the members that were not removed.
func (c *Cluster) In() (n int) {
	for _, m := range c.Members {
		if !m.Out {
			n++
		}
	}
	return n
}

// LeaderNow returns the member that a majority of all takes for the leader, and that
// takes itself for it; false if there is none now.
func (c *Cluster) LeaderNow() (int, bool) {
	votes := map[string]int{}
	leads := -1
	for _, i := range c.Up() {
		votes[c.DB(i).Status().LeaderID]++
	}
	for _, i := range c.Up() {
		if votes[c.Members[i].ID] > c.In()/2 && c.DB(i).Status().Role == "leader" {
			leads = i
		}
	}
	return leads, leads >= 0
}

// Ready waits until every member that is up is ready.
func (c *Cluster) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	for _, i := range c.Up() {
		if err := c.DB(i).Ready(ctx); err != nil {
			return fmt.Errorf("member %d does not become ready: %w", i, err)
		}
	}
	return nil
}

// Partition splits the network: only members of one group reach each other. A member
// in no group reaches nobody.
func (c *Cluster) Partition(groups ...[]int) {
	hosts := make([][]string, len(groups))
	var named []int
	for g, group := range groups {
		for _, i := range group {
			hosts[g] = append(hosts[g], c.Members[i].Host())
		}
		named = append(named, group...)
	}
	for i, m := range c.Members {
		if !slices.Contains(named, i) {
			hosts = append(hosts, []string{m.Host()})
		}
	}
	c.Net.Partition(hosts...)
}

// Cut holds back everything that member from sends to member to, in this one direction.
func (c *Cluster) Cut(from, to int) { c.Net.Cut(c.Members[from].Host(), c.Members[to].Host()) }

// Delay makes everything that member from sends to member to arrive d later.
func (c *Cluster) Delay(from, to int, d time.Duration) {
	c.Net.Delay(c.Members[from].Host(), c.Members[to].Host(), d)
}

// Poll waits until ok.
func Poll(ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Timeout); !ok(); {
		if time.Now().After(end) {
			return fmt.Errorf("not within %v", Timeout)
		}
		<-tick.C
	}
	return nil
}

// Close closes all members and says what is left of them.
func (c *Cluster) Close() error {
	var errs []error
	for i, m := range c.Members {
		if db := m.DB(); db != nil {
			if err := CloseAndCheck(db); err != nil {
				errs = append(errs, fmt.Errorf("member %d: %w", i, err))
			}
		}
	}
	if err := Poll(func() bool { return c.Net.Conns() == 0 }); err != nil {
		errs = append(errs, fmt.Errorf("%d connections are left", c.Net.Conns()))
	}
	return errors.Join(errs...)
}

// CloseAndCheck closes db and says what is left of it. What had stopped by a failure
// may leave something.
func CloseAndCheck(db *replkv.DB) error {
	stopped := db.Err()
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if left := hook.Inspect(db).Leaks(); left != "" && stopped == nil {
		return fmt.Errorf("left behind: %s", left)
	}
	return nil
}
