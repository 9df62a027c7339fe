package transport

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/memnet"
)

// endless is a snapshot that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// calls is each call that a member can make, with its longest time.
func calls(a *Transport) map[string]struct {
	bound time.Duration
	call  func() error
} {
	ctx, to := context.Background(), a.cfg.Timeouts
	type c = struct {
		bound time.Duration
		call  func() error
	}
	return map[string]c{
		"heartbeat": {to.Heartbeat, func() error {
			return a.AppendEntries("b", "b:1", appendHeartbeat("a"), &raft.AppendEntriesResponse{})
		}},
		"AppendEntries": {to.Append, func() error {
			return a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 2, 100)), &raft.AppendEntriesResponse{})
		}},
		"RequestVote": {to.Vote, func() error {
			return a.RequestVote("b", "b:1", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 2}, &raft.RequestVoteResponse{})
		}},
		"RequestPreVote": {to.Vote, func() error {
			return a.RequestPreVote("b", "b:1", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 2}, &raft.RequestPreVoteResponse{})
		}},
		"TimeoutNow": {to.TimeoutNow, func() error {
			return a.TimeoutNow("b", "b:1", &raft.TimeoutNowRequest{RPCHeader: header("a")}, &raft.TimeoutNowResponse{})
		}},
		"InstallSnapshot": {2 * to.SnapshotStall, func() error {
			return a.InstallSnapshot("b", "b:1", snapshotRequest("a", 1<<40), &raft.InstallSnapshotResponse{}, endless{})
		}},
		"Confirm":   {to.Confirm, func() error { _, _, err := a.Confirm(ctx, "b", "b:1", 2); return err }},
		"ReadIndex": {to.Request, func() error { _, _, err := a.ReadIndex(ctx, "b", "b:1"); return err }},
		"Forward":   {to.Request, func() error { _, _, err := a.Forward(ctx, "b", "b:1", make([]byte, 1<<20)); return err }},
	}
}

// blocked is a Handler that answers when its ctx ends.
func blocked(c *Config) {
	c.Handler = handler{
		confirm:   func(ctx context.Context, _ uint64) (uint64, bool, error) { <-ctx.Done(); return 0, false, ctx.Err() },
		readIndex: func(ctx context.Context) (uint64, uint64, error) { <-ctx.Done(); return 0, 0, ctx.Err() },
		forward: func(ctx context.Context, _ []byte) ([]byte, uint64, error) {
			<-ctx.Done()
			return nil, 0, &kv.Error{Op: "Set", Err: ctx.Err()}
		},
	}
}

func TestEachCallEndsWithinItsBound(t *testing.T) {
	faults := map[string]func(n *memnet.Network, b *Transport){
		"cut there":               func(n *memnet.Network, b *Transport) { n.Cut("a", "b") },
		"cut back":                func(n *memnet.Network, b *Transport) { n.Cut("b", "a") },
		"raft takes nothing":      func(n *memnet.Network, b *Transport) {},
		"raft takes, answers not": func(n *memnet.Network, b *Transport) { go swallow(b) },
	}
	for name, fault := range faults {
		for _, warm := range []bool{false, true} { // connections are open, or must be dialed over the fault
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T, n *memnet.Network) {
					a, b := start(t, n, "a"), start(t, n, "b", blocked)
					if warm {
						warmUp(t, a)
					}
					fault(n, b)
					for name, c := range calls(a) {
						within(t, c.bound+time.Second, func() {
							if err := c.call(); err == nil {
								t.Errorf("%s: no error", name)
							}
						})
					}
				})
			})
		}
	}
}

// warmUp opens all connections.
func warmUp(t *testing.T, a *Transport) {
	t.Helper()
	p, err := a.peer("b", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	for l := range laneCount {
		c, err := p.conn(l)
		if err != nil {
			t.Fatal(err)
		}
		c.Connect()
	}
	synctest.Wait()
}

// swallow takes RPCs, and reads nothing.
func swallow(b *Transport) {
	for {
		select {
		case <-b.Consumer():
		case <-b.ctx.Done():
			return
		}
	}
}

func TestCloseDoesNotWaitForABlackHole(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		consume(t, b, echo)
		var wg sync.WaitGroup
		wg.Go(func() { // by then the flow control window is larger than the buffers on the way
			data := &hook{r: endless{}, after: 5 << 20, f: func() { n.Cut("a", "b") }}
			a.InstallSnapshot("b", "b:1", snapshotRequest("a", 1<<40), &raft.InstallSnapshotResponse{}, data)
		})
		synctest.Wait()
		within(t, 0, func() {
			a.Close()
			wg.Wait()
		})
	})
}

func TestAfterACutCallsGoThroughAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b", withHandler)
		consume(t, b, echo)
		n.Cut("b", "a")
		for range 10 {
			for name, c := range calls(a) {
				if name != "InstallSnapshot" && c.call() == nil {
					t.Errorf("%s: no error", name)
				}
			}
		}
		n.Heal()
		for name, c := range calls(a) {
			if name == "InstallSnapshot" {
				continue
			}
			// A connection that is in backoff refuses for at most MaxDelay.
			within(t, 3*time.Second, func() {
				for c.call() != nil {
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
	})
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	for _, side := range []string{"caller", "callee"} {
		t.Run(side, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *memnet.Network) {
				a, b := start(t, n, "a"), start(t, n, "b", blocked)
				go swallow(b)
				var wg sync.WaitGroup
				for name, c := range calls(a) {
					wg.Go(func() {
						err := c.call()
						if side == "caller" && !errors.Is(err, raft.ErrTransportShutdown) && kv.OutcomeOf(err) != kv.OutcomeUnknown {
							t.Errorf("%s: %v", name, err)
						}
						if err == nil {
							t.Errorf("%s: no error", name)
						}
					})
				}
				synctest.Wait()
				within(t, 0, func() {
					if side == "caller" {
						a.Close()
						a.Close()
					} else {
						b.Close()
					}
					wg.Wait()
				})
				synctest.Wait()
				stack := make([]byte, 1<<20)
				stack = stack[:runtime.Stack(stack, true)]
				for _, g := range strings.Split(string(stack), "\n\n") {
					for _, f := range []string{"raftServer", "peerServer", "servedStream", "receiveSnapshot"} {
						if strings.Contains(g, f) {
							t.Errorf("a goroutine is left:\n%s", g)
						}
					}
				}
				closed := map[string]*Transport{"caller": a, "callee": b}[side]
				if err := closed.RequestVote("x", "x:1", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); err != raft.ErrTransportShutdown {
					t.Errorf("a call after Close: %v", err)
				}
				if _, _, err := closed.Forward(t.Context(), "x", "x:1", nil); !errors.Is(err, kv.ErrClosed) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
					t.Errorf("Forward after Close: %v", err)
				}
				if side == "callee" {
					if err := a.RequestVote("b", "b:1", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 1}, &raft.RequestVoteResponse{}); status.Code(err) != codes.Unavailable {
						t.Errorf("a call to a closed member: %v", err)
					}
				}
			})
		})
	}
}

func TestAnAbandonedRPCIsNotHandedToRaft(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		for _, name := range []string{"heartbeat", "AppendEntries", "RequestVote"} {
			if calls(a)[name].call() == nil {
				t.Fatal("no error")
			}
		}
		synctest.Wait()
		select {
		case rpc := <-b.Consumer():
			t.Fatalf("%#v arrives after its sender has gone", rpc.Command)
		default:
		}
	})
}

func TestAPeerMovesToAnotherAddress(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		addr := "b:1"
		a := start(t, n, "a", func(c *Config) { c.Resolve = func(string) (string, bool) { return addr, true } })
		consume(t, start(t, n, "b"), echo)
		l, _ := n.Listen("elsewhere:1")
		cfg := testConfig("b", "elsewhere:1")
		cfg.Dial = n.Dialer("elsewhere")
		moved := make(chan struct{}, 1)
		consume(t, startOn(t, l, cfg), func(rpc raft.RPC) { moved <- struct{}{}; echo(rpc) })
		call := calls(a)["AppendEntries"].call
		if err := call(); err != nil {
			t.Fatal(err)
		}
		addr = "elsewhere:1"
		if err := call(); err != nil {
			t.Fatal(err)
		}
		<-moved
		synctest.Wait()
		if c := n.Conns(); c != 1 {
			t.Errorf("%d connections", c)
		}
	})
}

func TestUnusedConnectionsAndPeersGo(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a")
		consume(t, start(t, n, "b"), echo)
		calls(a)["RequestVote"].call()
		time.Sleep(laneIdle + time.Minute)
		synctest.Wait()
		if c := n.Conns(); c != 0 {
			t.Errorf("%d connections after idle time", c)
		}
		time.Sleep(peerIdle)
		a.peer("c", "c:1")
		if len(a.mu.peers) != 1 {
			t.Errorf("%d peers", len(a.mu.peers))
		}
	})
}

func TestGarbageOnThePort(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		consume(t, b, echo)
		for _, raw := range []string{"", "\x00\xff\x00", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
			c, err := n.Dialer("x")(t.Context(), "b:1")
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, raw)
			time.Sleep(time.Second)
			c.Close()
		}
		if err := calls(a)["AppendEntries"].call(); err != nil {
			t.Fatal(err)
		}
	})
}

// client is a plain gRPC client without identity, as a Jille node would be.
func client(t *testing.T, n *memnet.Network, addr string) pb.RaftTransportClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(n.Dialer("x")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return pb.NewRaftTransportClient(cc)
}

func TestNonsenseMessagesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		b := start(t, n, "b")
		consume(t, b, func(rpc raft.RPC) {
			t.Errorf("handed to raft: %#v", rpc.Command)
			rpc.Respond(nil, errors.New("no"))
		})
		c, ctx := client(t, n, "b:1"), t.Context()
		check := func(name string, err error) {
			t.Helper()
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, m := range badAppends() {
			_, err := c.AppendEntries(ctx, m)
			check(name, err)
			st, err := c.AppendEntriesPipeline(ctx)
			if err != nil {
				t.Fatal(err)
			}
			st.Send(m)
			_, err = st.Recv()
			check(name+" on a stream", err)
		}
		for name, m := range badSnapshots() {
			st, err := c.InstallSnapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			st.Send(m)
			_, err = st.CloseAndRecv()
			check(name, err)
		}
		_, err := c.RequestVote(ctx, &pb.RequestVoteRequest{Term: 1})
		check("vote", err)
		_, err = c.RequestVote(ctx, &pb.RequestVoteRequest{RpcHeader: goodHeader()})
		check("vote in term 0", err)
		_, err = c.RequestPreVote(ctx, &pb.RequestPreVoteRequest{})
		check("pre-vote", err)
		_, err = c.TimeoutNow(ctx, &pb.TimeoutNowRequest{})
		check("timeout now", err)

		st, err := c.InstallSnapshot(ctx) // says nothing
		if err != nil {
			t.Fatal(err)
		}
		within(t, b.cfg.Timeouts.SnapshotStall, func() {
			if err := st.RecvMsg(&pb.InstallSnapshotResponse{}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("silent stream: %v", err)
			}
		})
	})
}
