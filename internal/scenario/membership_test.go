package scenario

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replkv/replkv/client"
)

// load writes all the time, through whatever client is current, and remembers
// what was acknowledged.
type load struct {
	c    *cluster
	kv   atomic.Pointer[client.Client]
	acks [4]atomic.Int64 // keys acknowledged by each writer, all from 0 on
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func (c *cluster) startLoad() *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{c: c, stop: cancel}
	l.through()
	for w := range l.acks {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				wctx, done := context.WithTimeout(ctx, 2*time.Second)
				_, err := l.kv.Load().Set(wctx, fmt.Sprintf("w%d/%06d", w, l.acks[w].Load()), []byte("v"))
				done()
				if err == nil {
					l.acks[w].Add(1)
				}
			}
		})
	}
	c.t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// through points the load at where the nodes are now.
func (l *load) through() {
	var addrs []string
	for _, n := range l.c.nodes {
		if !n.removed {
			addrs = append(addrs, n.addr)
		}
	}
	kv, err := client.Dial(client.Config{Endpoints: addrs, Insecure: true})
	if err != nil {
		l.c.t.Fatal(err)
	}
	l.c.t.Cleanup(func() { kv.Close() })
	l.kv.Store(kv)
}

func (l *load) total() (n int64) {
	for w := range l.acks {
		n += l.acks[w].Load()
	}
	return n
}

// passes waits until so many more writes are acknowledged.
func (l *load) passes(more int64) {
	l.c.t.Helper()
	want := l.total() + more
	l.c.wait("writes to go on", 20*time.Second, func() bool { return l.total() >= want })
}

// finish demands every acknowledged key.
func (l *load) finish() {
	l.c.t.Helper()
	l.stop()
	l.wg.Wait()
	for w := range l.acks {
		for k := range l.acks[w].Load() {
			if _, err := l.kv.Load().Get(l.c.t.Context(), fmt.Sprintf("w%d/%06d", w, k)); err != nil {
				l.c.t.Fatalf("w%d/%06d was acknowledged: %v", w, k, err)
			}
		}
	}
	l.c.t.Logf("%d acknowledged writes are all there", l.total())
}

func (c *cluster) voters(by *node) string {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	m, err := by.kv.Members(ctx)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, x := range m.Members {
		if !x.Nonvoter {
			out = append(out, x.ID+"="+x.Addr)
		}
	}
	return strings.Join(out, " ")
}

// TestMembershipOfProcesses: with real nodes and writes all the time, a fourth
// joins and becomes a voter, one of the first three is removed and says so,
// leadership is transferred, and all restart on new addresses at once.
func TestMembershipOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and kills processes")
	}
	c := newCluster(t)
	ctx := t.Context()
	c.leader()
	l := c.startLoad()
	l.passes(200)

	fourth := c.add()
	fourth.joins = true
	c.start(fourth)
	took := c.wait("the fourth to be a voter", 30*time.Second, func() bool {
		return strings.Contains(c.voters(c.nodes[0]), fourth.id+"="+fourth.addr)
	})
	t.Logf("a fourth node was a voter after %v", took)
	l.passes(200)

	gone, _ := c.leader() // the leader: it hands over first
	for _, n := range c.nodes {
		if n.joins && n == gone {
			gone = c.nodes[0]
		}
	}
	if _, err := fourth.kv.Remove(ctx, gone.id); err != nil {
		t.Fatal(err)
	}
	gone.removed = true
	gone.cmd.Wait() // it ends by itself
	gone.cmd = nil
	if out := gone.log.String(); !strings.Contains(out, "was removed from the cluster") {
		t.Errorf("the removed node says:\n%s", out)
	}
	l.through()
	l.passes(200)

	if err := fourth.kv.TransferLeadership(ctx, fourth.id); err != nil {
		t.Fatal(err)
	}
	c.wait("the fourth to lead", 10*time.Second, func() bool { lead, _ := c.leader(); return lead == fourth })
	l.passes(200)

	var all []*node
	for _, n := range c.nodes {
		if !n.removed {
			all = append(all, n)
		}
	}
	c.kill(all...)
	for _, n := range all {
		c.place(n)
	}
	for _, n := range all {
		c.start(n)
	}
	l.through()
	l.passes(200)
	c.wait("the table to have the new addresses", 20*time.Second, func() bool {
		table := c.voters(fourth)
		for _, n := range all {
			if !strings.Contains(table, n.id+"="+n.addr) {
				return false
			}
		}
		return true
	})
	l.finish()
	c.equal()
}
