package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/replkv/replkv/transport/memnet"
	"github.com/replkv/replkv/transport/peerpb"
)

// bubble runs f in virtual time. The bubble fails if a goroutine outlives f and
// its cleanups, so each test in one is a test of Close.
func bubble(t *testing.T, f func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, memnet.New()) })
}

// testConfig is the configuration of a member of the tests' cluster.
func testConfig(id, addr string) Config {
	return Config{ID: id, Addr: addr, Cluster: [16]byte{'c'}, Incarnation: [16]byte{id[0]}, Starts: []Start{{Number: 1, Boot: 1}}, Insecure: true}
}

// start makes a member "id" at "id:1" that serves on a plain gRPC server.
func start(t *testing.T, n *memnet.Network, id string, change ...func(*Config)) *Transport {
	t.Helper()
	l, err := n.Listen(id + ":1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(id, id+":1")
	cfg.Dial = n.Dialer(id)
	return startOn(t, l, cfg, change...)
}

func startOn(t *testing.T, l net.Listener, cfg Config, change ...func(*Config)) *Transport {
	t.Helper()
	for _, c := range change {
		c(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	if err := tr.Register(srv); err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() {
		tr.Close()
		srv.Stop()
	})
	return tr
}

// consume answers what arrives at tr until the test ends.
func consume(t *testing.T, tr *Transport, answer func(raft.RPC)) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-tr.Consumer():
				answer(rpc)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		tr.Close() // ends what answer may be reading
		close(stop)
		<-done
	})
}

// echo answers as a follower that accepts all.
func echo(rpc raft.RPC) {
	h := header("b")
	switch cmd := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		last := cmd.PrevLogEntry + uint64(len(cmd.Entries))
		rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: h, Term: cmd.Term, LastLog: last, Success: true, NoRetryBackoff: true}, nil)
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: h, Term: cmd.Term, Granted: cmd.LeadershipTransfer, Peers: []byte("p")}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: h, Term: cmd.Term, Granted: true}, nil)
	case *raft.TimeoutNowRequest:
		rpc.Respond(&raft.TimeoutNowResponse{RPCHeader: h}, nil)
	case *raft.InstallSnapshotRequest:
		n, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: h, Term: cmd.Term, Success: err == nil && n == cmd.Size}, err)
	default:
		rpc.Respond(nil, fmt.Errorf("unexpected %T", cmd))
	}
}

func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(id + ":1")}
}

// entries returns n entries of size bytes each that follow index prev.
func entries(prev uint64, n, size int) []*raft.Log {
	logs := make([]*raft.Log, n)
	for i := range logs {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(i + j)
		}
		logs[i] = &raft.Log{Index: prev + uint64(i) + 1, Term: 2, Type: raft.LogCommand, Data: data}
	}
	return logs
}

func appendRequest(from string, logs []*raft.Log) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{RPCHeader: header(from), Term: 2, Leader: []byte(from + ":1"), Entries: logs, LeaderCommitIndex: 1}
	if len(logs) > 0 && logs[0].Index > 1 {
		r.PrevLogEntry, r.PrevLogTerm = logs[0].Index-1, 1
	}
	return r
}

func configuration() []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{ID: "a", Address: "a:1"}, {ID: "b", Address: "b:1", Suffrage: raft.Nonvoter},
	}})
}

func snapshotRequest(from string, size int64) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{RPCHeader: header(from), SnapshotVersion: 1, Term: 2, Leader: []byte(from + ":1"),
		LastLogIndex: 9, LastLogTerm: 2, Configuration: configuration(), ConfigurationIndex: 1, Size: size}
}

// within fails the test if f takes longer than d.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > d {
		t.Errorf("took %v, more than %v", took, d)
	}
}

// handler is a Handler of functions.
type handler struct {
	confirm   func(ctx context.Context, term uint64) (uint64, bool, error)
	readIndex func(ctx context.Context) (uint64, uint64, error)
	forward   func(ctx context.Context, b []byte) ([]byte, uint64, error)
	join      func(ctx context.Context, from Identity, m *peerpb.JoinRequest) (*peerpb.JoinResponse, error)
	change    func(ctx context.Context, m *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error)
}

func (h handler) Confirm(ctx context.Context, term uint64) (uint64, bool, error) {
	return h.confirm(ctx, term)
}
func (h handler) ReadIndex(ctx context.Context) (uint64, uint64, error) { return h.readIndex(ctx) }
func (h handler) Forward(ctx context.Context, from Identity, b []byte) ([]byte, uint64, error) {
	if from.From != "a" { // who forwards in all tests
		return nil, 0, fmt.Errorf("forwarded by %q", from.From)
	}
	return h.forward(ctx, b)
}
func (h handler) Hello(context.Context) (*peerpb.HelloResponse, error) {
	return &peerpb.HelloResponse{LeaderId: "l"}, nil
}
func (h handler) Join(ctx context.Context, from Identity, m *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	return h.join(ctx, from, m)
}
func (h handler) Leases(_ context.Context, m *peerpb.LeasesRequest) (*peerpb.LeasesResponse, error) {
	return &peerpb.LeasesResponse{Leases: make([]*peerpb.LeaseState, len(m.GetIds()))}, nil
}
func (h handler) Change(ctx context.Context, m *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	return h.change(ctx, m)
}
