package replkv_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/replkvtest"
)

// mounted is a member whose peers and clients are served by the application's
// own plain gRPC server.
type mounted struct {
	db     *replkv.DB
	srv    *grpc.Server
	addr   string
	served chan error
}

func mountThree(t *testing.T) []*mounted {
	var table []replkv.Member
	var listeners []net.Listener
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		table = append(table, replkv.Member{ID: fmt.Sprint("m", i), Addr: l.Addr().String()})
	}
	var out []*mounted
	for i, m := range table {
		db, err := replkv.Open(replkv.Config{Dir: t.TempDir(), ID: m.ID, Addr: m.Addr, InitialCluster: table, InsecurePeers: true})
		if err != nil {
			t.Fatal(err)
		}
		n := &mounted{db: db, srv: grpc.NewServer(), addr: m.Addr, served: make(chan error, 1)}
		if err := errors.Join(db.RegisterPeer(n.srv), db.RegisterClient(n.srv)); err != nil {
			t.Fatal(err)
		}
		go func() { n.served <- n.srv.Serve(listeners[i]) }()
		t.Cleanup(func() {
			n.db.Close()
			n.srv.Stop()
			<-n.served
		})
		out = append(out, n)
	}
	for _, n := range out {
		if err := n.db.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestWrongOrder: a GracefulStop before Shutdown ends, although peers hold
// streams; and a store closed under a server that goes on says so to clients.
func TestWrongOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the rotation of streams")
	}
	nodes := mountThree(t)
	ctx := t.Context()
	for i, n := range nodes {
		if _, err := n.db.Set(ctx, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	replkvtest.CheckEqual(t, nodes[0].db, nodes[1].db, nodes[2].db)
	began := time.Now()
	stopped := make(chan struct{})
	go func() { nodes[0].srv.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
		t.Logf("GracefulStop before Shutdown took %v", time.Since(began))
	case <-time.After(20 * time.Second):
		t.Fatal("GracefulStop before Shutdown hangs")
	}
	if err := nodes[0].db.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, err := nodes[1].db.Set(ctx, "after", nil); err != nil {
		t.Error(err)
	}

	c, err := client.Dial(client.Config{Endpoints: []string{nodes[1].addr}, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(ctx, "after"); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].db.Close(); err != nil {
		t.Error(err)
	}
	began = time.Now()
	_, getErr := c.Get(ctx, "after")
	_, setErr := c.Set(ctx, "after", nil)
	for _, err := range []error{getErr, setErr} {
		if !errors.Is(err, replkv.ErrClosed) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
			t.Errorf("a call to a closed store: %v, outcome %v", err, replkv.OutcomeOf(err))
		}
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("they took %v", d)
	}
}

// TestGarbageOnPeerPort: bytes that are no gRPC end their connection and nothing
// else.
func TestGarbageOnPeerPort(t *testing.T) {
	nodes := mountThree(t)
	for range 20 {
		conn, err := net.Dial("tcp", nodes[0].addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write([]byte("GET / HTTP/1.1\r\n\r\n\x00\xff garbage"))
		for buf := make([]byte, 1024); err == nil; {
			_, err = conn.Read(buf)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("the server keeps a connection of garbage")
		}
		conn.Close()
	}
	for _, n := range nodes {
		if _, err := n.db.Set(t.Context(), "k", nil); err != nil {
			t.Error(err)
		}
	}
	replkvtest.CheckEqual(t, nodes[0].db, nodes[1].db, nodes[2].db)
}

// TestRegisterOnNoServer is an error, not a panic.
func TestRegisterOnNoServer(t *testing.T) {
	db := mountThree(t)[0].db
	for name, register := range map[string]func(grpc.ServiceRegistrar) error{"RegisterPeer": db.RegisterPeer, "RegisterClient": db.RegisterClient} {
		if err := register(nil); !errors.Is(err, replkv.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
