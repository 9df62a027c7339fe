package scenario

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// TestProcesses is what the README promises, with real processes: writes and
// reads through any node, SIGKILL of the leader, of one node for a long time, of
// all at once.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and kills processes")
	}
	c := newCluster(t)
	ctx := t.Context()
	lead, followers := c.leader()

	// Through one follower in, through the other out.
	if _, err := followers[0].text.Set(ctx, &replkvv1.TextSetRequest{Key: "username", Value: "admin"}); err != nil {
		t.Fatal(err)
	}
	got, err := followers[1].text.Get(ctx, &replkvv1.TextGetRequest{Key: "username"})
	if err != nil || got.Value != "admin" {
		t.Fatalf("Get through the other follower: %v, %v", got, err)
	}

	c.kill(lead)
	took := c.wait("a write after the leader's death", 4*time.Second, func() bool {
		wctx, cancel := context.WithTimeout(ctx, 4*time.Second)
		defer cancel()
		_, err := followers[0].kv.Set(wctx, "after", []byte("kill"))
		return err == nil
	})
	t.Logf("first write %v after SIGKILL of the leader", took)
	c.start(lead)
	c.caughtUp(lead, 20*time.Second)
	c.equal()

	c.kill(c.nodes...)
	for _, n := range c.nodes {
		c.start(n)
	}
	c.leader()
	for key, want := range map[string]string{"username": "admin", "after": "kill"} {
		if item, err := c.nodes[1].kv.Get(ctx, key); err != nil || string(item.Value) != want {
			t.Fatalf("%s after all were killed: %+v, %v", key, item, err)
		}
	}
	c.away(200_000)
}

// away kills a follower, writes n values, and brings it back: by snapshot, since
// the log it would need is gone.
func (c *cluster) away(n int) {
	c.t.Helper()
	_, followers := c.leader()
	gone := followers[0]
	c.kill(gone)
	lead, _ := c.leader()
	began := time.Now()
	value := []byte(strings.Repeat("x", 512))
	var wg sync.WaitGroup
	const workers = 256
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if _, err := lead.kv.Set(c.t.Context(), fmt.Sprintf("key-%06d", i), value); err != nil {
					c.t.Errorf("write %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.t.Logf("%d writes of 512 bytes through gRPC in %v", n, time.Since(began))
	c.start(gone)
	c.t.Logf("caught up in %v", c.caughtUp(gone, time.Minute))
	// Without a snapshot the scenario would show nothing.
	c.wait("the word of a snapshot", 5*time.Second, func() bool { return strings.Contains(gone.log.String(), "snapshot installed") })
	c.equal()
}

// equal scans every node's own state and compares.
func (c *cluster) equal() {
	c.t.Helper()
	last := c.nodes[len(c.nodes)-1]
	rev, err := last.kv.Revision(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	first := -1
	for _, n := range c.nodes {
		if n.removed {
			continue
		}
		items := 0
		hash := uint64(14695981039346656037)
		for item, err := range n.kv.Scan(c.t.Context(), kv.All(), kv.AtRevision(rev)) {
			if err != nil {
				c.t.Fatalf("scan of node %s: %v", n.id, err)
			}
			for _, b := range fmt.Appendf(nil, "%q %q %d %d %d", item.Key, item.Value, item.CreateRevision, item.ModRevision, item.Version) {
				hash = (hash ^ uint64(b)) * 1099511628211
			}
			items++
		}
		if first == -1 {
			first = int(hash)
		} else if int(hash) != first {
			c.t.Errorf("node %s holds other data than those before it (%d items)", n.id, items)
		}
	}
}
