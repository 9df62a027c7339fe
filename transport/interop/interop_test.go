package interop

import (
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	jille "github.com/Jille/raft-grpc-transport"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replkv/replkv/transport"
)

// A node that uses Jille's Go code and one of ours understand each other.
func TestInteropWithJille(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	lo, lj := listen(), listen()
	ours, err := transport.New(transport.Config{ID: "a", Addr: lo.Addr().String(), Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	ourSrv := grpc.NewServer()
	if err := ours.Register(ourSrv); err != nil {
		t.Fatal(err)
	}
	go ourSrv.Serve(lo)
	t.Cleanup(func() { ours.Close(); ourSrv.Stop() })
	theirs := jille.New(raft.ServerAddress(lj.Addr().String()), []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())})
	srv := grpc.NewServer()
	theirs.Register(srv)
	go srv.Serve(lj)
	t.Cleanup(func() { srv.Stop(); theirs.Close() })

	t.Run("to Jille", func(t *testing.T) { interop(t, ours, theirs.Transport()) })
	t.Run("from Jille", func(t *testing.T) { interop(t, theirs.Transport(), ours) })
	t.Run("from Jille, pipelined", func(t *testing.T) { pipelined(t, theirs.Transport(), ours) })
}

func serveRaft(t *testing.T, to raft.Transport, answer func(raft.RPC)) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-to.Consumer():
				answer(rpc)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func interop(t *testing.T, from, to raft.Transport) {
	var got any
	var data string
	serveRaft(t, to, func(rpc raft.RPC) {
		got = rpc.Command
		if cmd, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
			b, err := io.ReadAll(rpc.Reader)
			data = string(b)
			rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: header("b"), Term: cmd.Term, Success: true}, err)
			return
		}
		echo(rpc)
	})
	rpcs(t, from, to.LocalAddr(), func(sent, resp, want any) {
		t.Helper()
		if r, ok := got.(*raft.AppendEntriesRequest); ok && len(r.Entries) == 0 {
			r.Entries = nil // Jille's decoder makes an empty slice
		}
		if !reflect.DeepEqual(got, sent) {
			t.Errorf("sent %#v\narrived %#v", sent, got)
		}
		if !reflect.DeepEqual(resp, want) {
			t.Errorf("answered %#v, want %#v", resp, want)
		}
	})
	if data != "snapshot" {
		t.Errorf("snapshot is %q", data)
	}
}

func pipelined(t *testing.T, from, to raft.Transport) {
	serveRaft(t, to, echo)
	p, err := from.AppendEntriesPipeline("a", to.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	logs := entries(0, 100, 100)
	for i := range logs {
		if _, err := p.AppendEntries(appendRequest("b", logs[i:i+1]), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if f := <-p.Consumer(); f.Error() != nil || f.Response().LastLog != uint64(i+1) {
			t.Fatalf("%d: %+v, %v", i, f.Response(), f.Error())
		}
	}
}

// rpcs sends each of raft's RPCs with all fields set.
func rpcs(t *testing.T, a raft.Transport, addr raft.ServerAddress, check func(sent, resp, want any)) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	h := header("b")
	at := time.Unix(1700000000, 123).UTC()

	hb := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 2, Leader: []byte("a:1")}
	var ar raft.AppendEntriesResponse
	must(a.AppendEntries("b", addr, hb, &ar))
	check(hb, ar, raft.AppendEntriesResponse{RPCHeader: h, Term: 2, Success: true, NoRetryBackoff: true})

	app := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 3, Leader: []byte("a:1"), PrevLogEntry: 4, PrevLogTerm: 1, LeaderCommitIndex: 5,
		Entries: []*raft.Log{
			{Index: 5, Term: 2, Type: raft.LogNoop, AppendedAt: at},
			{Index: 6, Term: 2, Type: raft.LogBarrier, AppendedAt: at},
			{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: configuration(), AppendedAt: at},
			{Index: 8, Term: 3, Type: raft.LogCommand, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: at},
		}}
	must(a.AppendEntries("b", addr, app, &ar))
	check(app, ar, raft.AppendEntriesResponse{RPCHeader: h, Term: 3, LastLog: 8, Success: true, NoRetryBackoff: true})

	rv := &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 3, Candidate: []byte("a:1"), LastLogIndex: 4, LastLogTerm: 2, LeadershipTransfer: true}
	var vr raft.RequestVoteResponse
	must(a.RequestVote("b", addr, rv, &vr))
	check(rv, vr, raft.RequestVoteResponse{RPCHeader: h, Term: 3, Granted: true, Peers: []byte("p")})

	pv := &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 3, LastLogIndex: 4, LastLogTerm: 2}
	var pr raft.RequestPreVoteResponse
	must(a.(raft.WithPreVote).RequestPreVote("b", addr, pv, &pr))
	check(pv, pr, raft.RequestPreVoteResponse{RPCHeader: h, Term: 3, Granted: true})

	tn := &raft.TimeoutNowRequest{RPCHeader: header("a")}
	var tr raft.TimeoutNowResponse
	must(a.TimeoutNow("b", addr, tn, &tr))
	check(tn, tr, raft.TimeoutNowResponse{RPCHeader: h})

	is := snapshotRequest("a", 8)
	var sr raft.InstallSnapshotResponse
	must(a.InstallSnapshot("b", addr, is, &sr, strings.NewReader("snapshot")))
	check(is, sr, raft.InstallSnapshotResponse{RPCHeader: h, Term: 2, Success: true})
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
