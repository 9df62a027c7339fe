package transport

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/memnet"
)

// follower is a log that accepts what follows its end.
type follower struct {
	logs    []*raft.Log // from index 1
	parts   int
	commits []uint64
	refuse  int // the part to refuse, from 1
}

func (f *follower) answer(rpc raft.RPC) {
	r := rpc.Command.(*raft.AppendEntriesRequest)
	f.parts++
	f.commits = append(f.commits, r.LeaderCommitIndex)
	resp := &raft.AppendEntriesResponse{Term: r.Term, LastLog: uint64(len(f.logs))}
	if f.parts != f.refuse && r.PrevLogEntry == uint64(len(f.logs)) && (r.PrevLogEntry == 0 || f.logs[r.PrevLogEntry-1].Term == r.PrevLogTerm) {
		f.logs = append(f.logs, r.Entries...)
		resp.LastLog, resp.Success = uint64(len(f.logs)), true
	}
	rpc.Respond(resp, nil)
}

func TestALargeAppendIsSplit(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		f := &follower{}
		consume(t, b, f.answer)
		req := appendRequest("a", entries(0, 20, 1<<20))
		req.LeaderCommitIndex = 18
		var resp raft.AppendEntriesResponse
		if err := a.AppendEntries("b", "b:1", req, &resp); err != nil || !resp.Success || resp.LastLog != 20 {
			t.Fatalf("%+v, %v", resp, err)
		}
		if len(f.logs) != 20 || f.parts != 7 { // three of 1 MiB each fit into a part
			t.Fatalf("%d entries in %d parts", len(f.logs), f.parts)
		}
		for i, l := range f.logs {
			if l.Index != uint64(i+1) || !bytes.Equal(l.Data, req.Entries[i].Data) {
				t.Fatalf("entry %d differs", i)
			}
		}
		for i, c := range f.commits {
			if verified := min(uint64(3*(i+1)), 18); c > verified {
				t.Errorf("part %d commits %d, %d are verified", i, c, verified)
			}
		}
	})
}

func TestASplitStopsAtTheFirstRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		f := &follower{refuse: 2}
		consume(t, b, f.answer)
		var resp raft.AppendEntriesResponse
		err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 20, 1<<20)), &resp)
		if err != nil || resp.Success || resp.LastLog != 3 || f.parts != 2 {
			t.Fatalf("%+v, %v after %d parts", resp, err, f.parts)
		}
	})
}

func TestTheLargestEntryFitsAndALargerOneIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		consume(t, b, echo)
		var resp raft.AppendEntriesResponse
		if err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, MaxEntryBytes)), &resp); err != nil {
			t.Fatal(err)
		}
		err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, MaxMessageBytes)), &resp)
		if !errors.Is(err, kv.ErrTooLarge) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestAppendsOutliveTheirStream(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		var served atomic.Int32
		consume(t, b, func(rpc raft.RPC) { served.Add(1); echo(rpc) })
		send := func() {
			t.Helper()
			if err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, 10)), &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 300 { // a minute: seven streams
			send()
			time.Sleep(200 * time.Millisecond)
		}
		p, _ := a.peer("b", "b:1")
		if st := p.takeStream(); st == nil || time.Since(st.born) > streamAge {
			t.Fatal("no stream, or an old one")
		} else {
			p.putStream(st)
		}
		time.Sleep(streamAge)
		if p.takeStream() != nil {
			t.Fatal("an idle stream lives on")
		}
		send()
		n.Drop("a", "b") // the kept stream is broken; nobody knows yet
		send()
		if served.Load() != 302 {
			t.Fatalf("%d appends served", served.Load())
		}
	})
}

func TestAServerEndsAnOldStreamAndLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		var served atomic.Int32
		consume(t, b, func(rpc raft.RPC) { served.Add(1); echo(rpc) })
		p, _ := a.peer("b", "b:1")
		st, err := p.openStream()
		if err != nil {
			t.Fatal(err)
		}
		st.expiry.Stop() // a client that does not close its streams
		st.deadline.Stop()
		p.putStream(st)
		time.Sleep(serverStreamAge + time.Second)
		if _, err := st.rpc.Recv(); status.Code(err) != codes.Unavailable {
			t.Fatalf("the old stream: %v", err)
		}
		if err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, 10)), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if served.Load() != 1 {
			t.Fatalf("served %d times", served.Load())
		}
	})
}

func TestGracefulStopEndsWithoutClose(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a")
		l, _ := n.Listen("b:1")
		b, _ := New(testConfig("b", "b:1"))
		srv := grpc.NewServer()
		b.Register(srv)
		go srv.Serve(l)
		consume(t, b, echo)
		if err := a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, 10)), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		within(t, serverStreamAge, srv.GracefulStop)
	})
}

func TestAHeartbeatDoesNotWaitForAnAppend(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a"), start(t, n, "b")
		var held raft.RPC
		consume(t, b, func(rpc raft.RPC) {
			if r := rpc.Command.(*raft.AppendEntriesRequest); len(r.Entries) > 0 {
				held = rpc
				return
			}
			echo(rpc)
		})
		done := make(chan error, 1)
		go func() {
			done <- a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 3, 1<<20)), &raft.AppendEntriesResponse{})
		}()
		synctest.Wait()
		if held.Command == nil {
			t.Fatal("the append did not arrive")
		}
		within(t, 0, func() {
			if err := a.AppendEntries("b", "b:1", appendHeartbeat("a"), &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		})
		echo(held)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func appendHeartbeat(from string) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: header(from), Term: 2, Leader: []byte(from + ":1")}
}

func TestAMemberThatIsBehindHoldsEntriesBackButNotHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		var unapplied atomic.Int64
		unapplied.Store(UnappliedLimit + 1)
		a, b := start(t, n, "a"), start(t, n, "b", func(c *Config) { c.Unapplied = unapplied.Load })
		consume(t, b, echo)
		if err := a.AppendEntries("b", "b:1", appendHeartbeat("a"), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		send := func() error {
			return a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, 10)), &raft.AppendEntriesResponse{})
		}
		within(t, 10*time.Second, func() {
			if err := send(); status.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("got %v", err)
			}
		})
		time.AfterFunc(time.Second, func() { unapplied.Store(0) })
		within(t, time.Second+holdBackPoll, func() {
			if err := send(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestAnswersToNewEntriesAreHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		const pause = 300 * time.Millisecond
		a, b := start(t, n, "a"), start(t, n, "b", func(c *Config) { c.Pace = func(time.Duration) time.Duration { return pause } })
		consume(t, b, echo)
		took := func(req *raft.AppendEntriesRequest) time.Duration {
			began := time.Now()
			if err := a.AppendEntries("b", "b:1", req, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		req := appendRequest("a", entries(0, 1, 10))
		last, _ := lastOf(req)
		for commit, want := range map[uint64]time.Duration{0: pause, last - 1: pause, last: 0, last + 1: 0} {
			req.LeaderCommitIndex = commit
			if d := took(req); d < want || d > want+holdBackPoll {
				t.Errorf("entries up to %d took %v, %d were committed", last, d, commit)
			}
		}
		if d := took(appendHeartbeat("a")); d > holdBackPoll {
			t.Errorf("a heartbeat took %v", d)
		}
	})
}
