package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/memnet"
	"github.com/replkv/replkv/transport/peerpb"
)

func TestEveryRPC(t *testing.T) {
	t.Run("memnet", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *memnet.Network) {
			everyRPC(t, start(t, n, "a"), start(t, n, "b", withHandler))
		})
	})
	t.Run("tcp", func(t *testing.T) {
		listen := func() net.Listener {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		la, lb := listen(), listen()
		a := startOn(t, la, testConfig("a", la.Addr().String()))
		everyRPC(t, a, startOn(t, lb, testConfig("b", lb.Addr().String()), withHandler))
	})
}

func withHandler(c *Config) {
	c.Handler = handler{
		confirm:   func(_ context.Context, term uint64) (uint64, bool, error) { return term + 1, true, nil },
		readIndex: func(context.Context) (uint64, uint64, error) { return 7, 2, nil },
		forward: func(_ context.Context, b []byte) ([]byte, uint64, error) {
			if string(b) == "conflict" {
				return nil, 0, &kv.Error{Op: "Set", Outcome: kv.OutcomeNotDone, LeaderID: "c", LeaderAddr: "c:1", Err: kv.ErrConflict}
			}
			return append([]byte("done "), b...), 9, nil
		},
	}
}

// everyRPC sends each RPC from a to b and checks that all fields arrive.
func everyRPC(t *testing.T, a, b *Transport) {
	var got any
	var data bytes.Buffer
	consume(t, b, func(rpc raft.RPC) {
		got = rpc.Command
		if cmd, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
			_, err := data.ReadFrom(rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: header("b"), Term: cmd.Term, Success: true}, err)
			return
		}
		echo(rpc)
	})
	addr := b.LocalAddr()
	rpcs(t, a, addr, func(sent, resp, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, sent) {
			t.Errorf("sent %#v\narrived %#v", sent, got)
		}
		if !reflect.DeepEqual(resp, want) {
			t.Errorf("answered %#v, want %#v", resp, want)
		}
	})
	if data.String() != "snapshot" {
		t.Errorf("snapshot is %q", data.String())
	}

	ctx := t.Context()
	if term, voter, err := a.Confirm(ctx, "b", string(addr), 4); term != 5 || !voter || err != nil {
		t.Errorf("Confirm: %d, %v, %v", term, voter, err)
	}
	if index, term, err := a.ReadIndex(ctx, "b", string(addr)); index != 7 || term != 2 || err != nil {
		t.Errorf("ReadIndex: %d, %d, %v", index, term, err)
	}
	if result, index, err := a.Forward(ctx, "b", string(addr), []byte("x")); string(result) != "done x" || index != 9 || err != nil {
		t.Errorf("Forward: %q, %d, %v", result, index, err)
	}
	_, _, err := a.Forward(ctx, "b", string(addr), []byte("conflict"))
	var e *kv.Error
	if !errors.As(err, &e) || e.Outcome != kv.OutcomeNotDone || e.LeaderID != "c" || !errors.Is(err, kv.ErrConflict) {
		t.Errorf("Forward: %v", err)
	}
	if _, _, err := a.Forward(ctx, "b", string(addr), make([]byte, MaxMessageBytes+1)); !errors.Is(err, kv.ErrTooLarge) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("Forward of a large batch: %v", err)
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

func TestLogTypesHaveTheSameNumbers(t *testing.T) {
	for want, l := range map[pb.Log_LogType]raft.LogType{
		pb.Log_LOG_COMMAND: raft.LogCommand, pb.Log_LOG_NOOP: raft.LogNoop, pb.Log_LOG_BARRIER: raft.LogBarrier,
		pb.Log_LOG_CONFIGURATION: raft.LogConfiguration, pb.Log_LOG_ADD_PEER_DEPRECATED: raft.LogAddPeerDeprecated,
		pb.Log_LOG_REMOVE_PEER_DEPRECATED: raft.LogRemovePeerDeprecated,
	} {
		if pb.Log_LogType(l) != want {
			t.Errorf("%v is %d", want, l)
		}
	}
}

func TestAnErrorOfRaftBecomesACode(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		var answer error
		consume(t, b, func(rpc raft.RPC) { rpc.Respond(nil, answer) })
		for _, c := range []struct {
			err  error
			want codes.Code
		}{
			{raft.ErrRaftShutdown, codes.Unavailable},
			{raft.ErrUnsupportedProtocol, codes.FailedPrecondition},
			{errors.New("unexpected command"), codes.Internal}, // by this text raft knows a peer without pre-vote
			{nil, codes.Internal},                              // neither error nor response
		} {
			answer = c.err
			err := a.RequestPreVote("b", "b:1", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 1}, &raft.RequestPreVoteResponse{})
			if status.Code(err) != c.want || (c.err != nil && !strings.Contains(err.Error(), c.err.Error())) {
				t.Errorf("%v became %v", c.err, err)
			}
		}
	})
}

func TestRegisterTwiceIsAnError(t *testing.T) {
	tr, err := New(testConfig("a", "a:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	srv := grpc.NewServer()
	if err := tr.Register(srv); err != nil {
		t.Fatal(err)
	}
	if err := tr.Register(srv); !errors.Is(err, kv.ErrAlreadyRegistered) {
		t.Fatalf("got %v", err)
	}
	for service, info := range srv.GetServiceInfo() {
		for _, m := range info.Methods {
			if !IsPeerMethod("/" + service + "/" + m.Name) {
				t.Errorf("%s/%s is no peer method", service, m.Name)
			}
		}
	}
	if IsPeerMethod("/replkv.v1.KV/Get") || IsPeerMethod("") || IsPeerMethod("RaftTransport") {
		t.Error("too many peer methods")
	}
}

func TestAnInvalidConfigIsRefused(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.ID = "" }, func(c *Config) { c.Addr = "" }, func(c *Config) { c.Insecure = false },
	} {
		cfg := testConfig("a", "a:1")
		change(&cfg)
		if _, err := New(cfg); !errors.Is(err, kv.ErrInvalidConfig) {
			t.Errorf("got %v", err)
		}
	}
}

// TestChangeTakesAsLongAsItsCallerWaits: a change that waits for a member to catch up ends
// with its ctx; one whose ctx has no end, or an earlier one than Timeouts.Request, with that.
func TestChangeTakesAsLongAsItsCallerWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a")
		start(t, n, "b", func(c *Config) {
			c.Handler = handler{change: func(ctx context.Context, _ *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
		})
		for limit, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Second: time.Second, 5 * time.Minute: 5 * time.Minute} {
			ctx, cancel := t.Context(), func() {}
			if limit > 0 {
				ctx, cancel = context.WithTimeout(ctx, limit)
			}
			began := time.Now()
			_, err := a.Change(ctx, "b", "b:1", &peerpb.ChangeRequest{})
			cancel()
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took < want || took > want+time.Second {
				t.Errorf("with a limit of %v: %v after %v, want %v", limit, err, took, want)
			}
		}
	})
}
