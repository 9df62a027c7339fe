package scenario

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/client"
)

// cluster is node processes on loopback.
type cluster struct {
	t     *testing.T
	bin   string
	dir   string
	nodes []*node
}

type node struct {
	id, addr string
	joins    bool // a cluster that runs; else it is one of the first
	removed  bool
	conn     *grpc.ClientConn
	cmd      *exec.Cmd
	log      *syncBuffer
	kv       *client.Client
	status   replkvv1.ClusterClient
	text     replkvv1.TextKVClient
}

// syncBuffer is written by a process and read by the test.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	c.bin = filepath.Join(c.dir, "node")
	if out, err := exec.Command("go", "build", "-o", c.bin, "../../examples/node").CombinedOutput(); err != nil {
		t.Fatalf("build examples/node: %v\n%s", err, out)
	}
	t.Cleanup(c.close)
	for range 3 {
		c.add()
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	return c
}

// add makes room for a node.
func (c *cluster) add() *node {
	n := &node{id: fmt.Sprint(len(c.nodes) + 1)}
	c.nodes = append(c.nodes, n)
	c.place(n)
	c.t.Cleanup(func() { n.leave() })
	return n
}

// place gives a node an address, and connects to it.
func (c *cluster) place(n *node) {
	n.leave()
	n.addr = freeAddr(c.t)
	var err error
	if n.conn, err = grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		c.t.Fatal(err)
	}
	n.status, n.text = replkvv1.NewClusterClient(n.conn), replkvv1.NewTextKVClient(n.conn)
	if n.kv, err = client.Dial(client.Config{Endpoints: []string{n.addr}, Insecure: true}); err != nil {
		c.t.Fatal(err)
	}
}

func (n *node) leave() {
	if n.conn != nil {
		n.conn.Close()
		n.kv.Close()
	}
}

// freeAddr finds a port that nobody has now. Somebody may take it before the
// node does; start tries again.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *cluster) start(n *node) {
	c.t.Helper()
	var peers, addrs []string
	for _, p := range c.nodes {
		if p != n && !p.removed {
			addrs = append(addrs, p.addr)
			if !p.joins {
				peers = append(peers, p.id+"="+p.addr)
			}
		}
	}
	n.log = &syncBuffer{}
	args := []string{"-v", "-addr", n.addr, "-dir", filepath.Join(c.dir, "data-"+n.id), n.id}
	if n.joins {
		args = append(args, "-join", strings.Join(addrs, ","))
	} else {
		args = append(args, strings.Join(peers, ","))
	}
	n.cmd = exec.Command(c.bin, args...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends nodes as SIGKILL does.
func (c *cluster) kill(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		if err := n.cmd.Process.Kill(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.cmd.Wait()
		n.cmd = nil
	}
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		if n.cmd != nil {
			n.cmd.Process.Signal(os.Interrupt)
		}
	}
	for _, n := range c.nodes {
		if n.cmd != nil {
			if err := n.cmd.Wait(); err != nil && !c.t.Failed() {
				c.t.Errorf("node %s did not end in good order: %v", n.id, err)
			}
		}
		if c.t.Failed() {
			c.t.Logf("node %s:\n%s", n.id, n.log)
		}
	}
}

func (c *cluster) wait(what string, within time.Duration, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > within {
			c.t.Fatalf("%s: not within %v", what, within)
		}
		<-tick.C
	}
	return time.Since(began)
}

func (n *node) get(ctx context.Context) (*replkvv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return n.status.Status(ctx, &replkvv1.StatusRequest{})
}

// leader waits for a leader and returns it and the followers.
func (c *cluster) leader() (lead *node, followers []*node) {
	c.t.Helper()
	c.wait("a leader", 20*time.Second, func() bool {
		lead, followers = nil, nil
		for _, n := range c.nodes {
			if n.cmd == nil {
				continue
			}
			s, err := n.get(c.t.Context())
			if err != nil {
				return false
			}
			if s.Role == "leader" {
				lead = n
			} else {
				followers = append(followers, n)
			}
		}
		return lead != nil
	})
	return lead, followers
}

// caughtUp waits until a node has applied what the leader has.
func (c *cluster) caughtUp(n *node, within time.Duration) time.Duration {
	c.t.Helper()
	lead, _ := c.leader()
	want, err := lead.get(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return c.wait("node "+n.id+" to catch up", within, func() bool {
		s, err := n.get(c.t.Context())
		return err == nil && s.AppliedIndex >= want.AppliedIndex
	})
}
