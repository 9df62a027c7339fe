package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	jille "github.com/Jille/raft-grpc-transport"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replkv/replkv"
)

// counter is the state machine of the foreign node: it only counts.
type counter struct{ n atomic.Int64 }

func (c *counter) Apply(*raft.Log) any                 { return c.n.Add(1) }
func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return c, nil }
func (c *counter) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (c *counter) Release()                            {}
func (c *counter) Restore(r io.ReadCloser) error       { _, err := io.Copy(io.Discard, r); return err }

// TestJilleNodeTakesPart: two of ours and one hashicorp/raft node on Jille's
// transport form a cluster. It votes, stores, and makes up a quorum with one of
// ours, for writes and for linearizable reads.
func TestJilleNodeTakesPart(t *testing.T) {
	ids := []string{"a", "b", "j"}
	listeners := map[string]net.Listener{}
	var table []replkv.Member
	var servers raft.Configuration
	for _, id := range ids {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[id] = l
		addr := l.Addr().String()
		table = append(table, replkv.Member{ID: id, Addr: addr})
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(addr)})
	}
	node, fsm := startJille(t, listeners["j"], servers)
	open := func(i int, l net.Listener, dir string) *replkv.DB {
		db, err := replkv.Open(replkv.Config{Dir: dir, ID: ids[i], Addr: table[i].Addr, Listener: l, InitialCluster: table,
			InsecurePeers: true, ElectionTimeout: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, dirB := open(0, listeners["a"], t.TempDir()), t.TempDir()
	b := open(1, listeners["b"], dirB)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	next := func(what string) {
		t.Helper()
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what)
		}
	}
	lead := func() {
		for {
			switch a.Status().LeaderID {
			case "a":
				return
			case "b":
				b.TransferLeadership(ctx, "a")
			case "j": // it serves no client of ours
				node.LeadershipTransferToServer("a", raft.ServerAddress(table[0].Addr)).Error()
			}
			next("a does not come to lead")
		}
	}
	lead()
	set := func(db *replkv.DB, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := db.Set(ctx, fmt.Sprintf("k%d", i), []byte("v")); err != nil {
				t.Fatalf("Set %d: %v", i, err)
			}
		}
	}
	set(b, 0, 20)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	lead()
	set(a, 20, 40) // a quorum of a and j
	for i := range 40 {
		if _, err := a.Get(ctx, fmt.Sprintf("k%d", i)); err != nil { // confirmed by j
			t.Fatalf("Get %d: %v", i, err)
		}
	}
	for node.AppliedIndex() < a.Status().CommitIndex {
		next("the foreign node does not apply everything")
	}
	if fsm.n.Load() < 40 {
		t.Errorf("the foreign state machine saw %d commands", fsm.n.Load())
	}
	l, err := net.Listen("tcp", table[1].Addr)
	if err != nil {
		t.Fatal(err)
	}
	b = open(1, l, dirB)
	if err := b.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	// The move is over: the foreign node goes, a third of ours may join.
	if m, err := b.Remove(ctx, "j"); err != nil || m.Voters() != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
}

func startJille(t *testing.T, l net.Listener, servers raft.Configuration) (*raft.Raft, *counter) {
	m := jille.New(raft.ServerAddress(l.Addr().String()), []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())})
	srv := grpc.NewServer()
	m.Register(srv)
	go srv.Serve(l)
	c := raft.DefaultConfig()
	c.LocalID = "j"
	c.Logger = hclog.NewNullLogger()
	c.ElectionTimeout, c.HeartbeatTimeout, c.LeaderLeaseTimeout = time.Second, time.Second, 500*time.Millisecond
	log, snaps, fsm := raft.NewInmemStore(), raft.NewInmemSnapshotStore(), &counter{}
	if err := raft.BootstrapCluster(c, log, log, snaps, m.Transport(), servers); err != nil {
		t.Fatal(err)
	}
	node, err := raft.NewRaft(c, fsm, log, log, snaps, m.Transport())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Shutdown(); srv.Stop(); m.Close() })
	return node, fsm
}
