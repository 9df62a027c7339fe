package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// proc is a node that runs on a goroutine instead of in a process.
type proc struct {
	opts           options
	stop           context.CancelFunc
	done           chan error // gets what serve returned
	stdout, stderr buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a node of the given command line on l.
func start(t *testing.T, l net.Listener, args ...string) *proc {
	t.Helper()
	o, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proc{opts: o, stop: cancel, done: make(chan error, 1)}
	go func() { p.done <- serve(ctx, o, l, &p.stdout, &p.stderr) }()
	t.Cleanup(func() {
		cancel()
		if err, ok := <-p.done; ok && err != nil {
			t.Errorf("node %s: %v", o.id, err)
		}
	})
	return p
}

// end stops the node as SIGTERM does.
func (p *proc) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.done; err != nil {
		t.Errorf("node %s: %v", p.opts.id, err)
	}
	close(p.done)
}

// dial connects to the node and waits until its health is SERVING.
func (p *proc) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if p.opts.tls != nil {
		creds = credentials.NewTLS(p.opts.tls)
	}
	conn, err := grpc.NewClient(p.opts.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := w.Recv()
		if err != nil {
			t.Fatalf("node %s does not become ready: %v; stderr %q", p.opts.id, err, p.stderr.String())
		}
		if r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return conn
		}
	}
}

// ready waits for the line that says so, and returns it.
func (p *proc) ready(t *testing.T) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); !strings.HasSuffix(p.stdout.String(), "\n"); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("node %s does not say that it is ready; stderr %q", p.opts.id, p.stderr.String())
		}
	}
	return p.stdout.String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startThree runs a cluster; extra goes to each command line.
func startThree(t *testing.T, extra func(id string) []string) []*proc {
	t.Helper()
	var ls []net.Listener
	var peers []string
	ids := []string{"1", "2", "3"}
	for _, id := range ids {
		l := listen(t)
		ls = append(ls, l)
		peers = append(peers, id+"="+l.Addr().String())
	}
	var procs []*proc
	for i, id := range ids {
		args := append(extra(id), "-addr", ls[i].Addr().String(), "-dir", filepath.Join(t.TempDir(), "a", "b"), id, strings.Join(peers, ","))
		procs = append(procs, start(t, ls[i], args...))
	}
	return procs
}

func TestThreeNodes(t *testing.T) {
	procs := startThree(t, func(string) []string { return nil })
	var kv []replkvv1.TextKVClient
	for _, p := range procs {
		kv = append(kv, replkvv1.NewTextKVClient(p.dial(t)))
	}
	ctx := t.Context()
	if r, err := kv[0].Set(ctx, &replkvv1.TextSetRequest{Key: "username", Value: "admin"}); err != nil || !r.GetSuccess() {
		t.Fatal(r, err)
	}
	for _, c := range kv {
		if r, err := c.Get(ctx, &replkvv1.TextGetRequest{Key: "username"}); err != nil || r.GetValue() != "admin" {
			t.Fatal(r, err)
		}
	}
	if r, err := kv[1].Delete(ctx, &replkvv1.TextDeleteRequest{Key: "username"}); err != nil || !r.GetSuccess() {
		t.Fatal(r, err)
	}
	if _, err := kv[2].Get(ctx, &replkvv1.TextGetRequest{Key: "username"}); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	for _, p := range procs {
		p.ready(t)
	}
	for _, p := range procs {
		p.end(t) // the last ones without a quorum
		if out := p.stdout.String(); strings.Count(out, "\n") != 1 || !strings.Contains(out, "node "+p.opts.id+" is ready at "+p.opts.addr) {
			t.Errorf("stdout %q", out)
		}
	}
}

func TestSingleNodeReopens(t *testing.T) {
	dir, l := t.TempDir(), listen(t)
	addr := l.Addr().String()
	ctx := t.Context()
	p := start(t, l, "-addr", addr, "-dir", dir, "1")
	conn := p.dial(t)
	if _, err := replkvv1.NewTextKVClient(conn).Set(ctx, &replkvv1.TextSetRequest{Key: "k", Value: "v"}); err != nil {
		t.Fatal(err)
	}
	if names := services(t, conn); !strings.Contains(names, "replkv.v1.TextKV") || !strings.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("reflection tells of %s", names)
	}
	p.end(t)

	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p = start(t, again, "-addr", addr, "-dir", dir, "1")
	if r, err := replkvv1.NewTextKVClient(p.dial(t)).Get(ctx, &replkvv1.TextGetRequest{Key: "k"}); err != nil || r.GetValue() != "v" {
		t.Fatal(r, err)
	}
	p.end(t)

	// The directory's cluster has one member, whatever the command line says.
	if again, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	p = start(t, again, "-addr", addr, "-dir", dir, "1", "2=127.0.0.1:1")
	out := p.ready(t)
	p.end(t)
	if said := p.stderr.String(); !strings.Contains(said, "without node 2: its members are 1="+addr) || strings.Count(said, "\n") != 1 {
		t.Errorf("stderr %q", said)
	}
	if !strings.Contains(out, " 1 member(s)") {
		t.Errorf("stdout %q", out)
	}
}

// services asks by reflection, as grpcurl does.
func services(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	s, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, svc := range r.GetListServicesResponse().GetService() {
		names = append(names, svc.GetName())
	}
	return strings.Join(names, " ")
}
