package transport

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/transport/memnet"
)

// aheadPair is a leader with one follower that has entry 1 of term 2.
type aheadPair struct {
	*testing.T
	a   *Transport
	f   *follower
	all []*raft.Log
}

func newAheadPair(t *testing.T, n *memnet.Network) *aheadPair {
	p := &aheadPair{T: t, a: start(t, n, "a"), f: &follower{}, all: entries(0, 100, 10)}
	consume(t, start(t, n, "b"), p.f.answer)
	p.begin()
	return p
}

// begin has the follower acknowledge entry 1, and again over the stream that is
// open then: the first answer over a stream may be another process's.
func (p *aheadPair) begin() {
	p.Helper()
	p.append(1, 1, true)
	req := appendRequest("a", nil)
	req.PrevLogEntry, req.PrevLogTerm = 1, 2
	var resp raft.AppendEntriesResponse
	if err := p.a.AppendEntries("b", "b:1", req, &resp); err != nil || !resp.Success {
		p.Fatalf("%+v, %v", resp, err)
	}
	p.f.parts = 1
}

// appendTo is raft's request for the entries from..to, to b at that address.
func (p *aheadPair) appendTo(addr string, from, to uint64) (raft.AppendEntriesResponse, error) {
	req := appendRequest("a", p.all[from-1:to])
	req.PrevLogTerm = 2
	var resp raft.AppendEntriesResponse
	err := p.a.AppendEntries("b", raft.ServerAddress(addr), req, &resp)
	return resp, err
}

// append is raft's request for the entries from..to.
func (p *aheadPair) append(from, to uint64, success bool) {
	p.Helper()
	req := appendRequest("a", p.all[from-1:to])
	if from > 1 {
		req.PrevLogTerm = 2
	}
	var resp raft.AppendEntriesResponse
	err := p.a.AppendEntries("b", "b:1", req, &resp)
	if err != nil || resp.Success != success || success && (resp.Term != 2 || resp.LastLog != to) {
		p.Fatalf("append of %d-%d: %+v, %v", from, to, resp, err)
	}
}

// ahead sends the entries from..to ahead, and waits until nothing moves.
func (p *aheadPair) ahead(from, to uint64) {
	p.a.SendAhead(1, p.all[from-1:to])
	synctest.Wait()
}

// has checks what the follower holds, and after how many requests.
func (p *aheadPair) has(entries, requests int) {
	p.Helper()
	if len(p.f.logs) != entries || p.f.parts != requests {
		p.Fatalf("the follower has %d entries after %d requests, want %d and %d", len(p.f.logs), p.f.parts, entries, requests)
	}
}

func TestEntriesAreSentAheadOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.ahead(2, 3)
		p.has(3, 2) // before raft asks
		p.append(2, 3, true)
		p.has(3, 2) // raft gets the answer that came
		p.ahead(4, 4)
		p.append(4, 6, true) // more than was sent ahead: the rest follows
		p.has(6, 4)
		p.append(4, 6, false) // what raft asks for again is sent again; this follower refuses it
		p.has(6, 5)
	})
}

func TestWhatWaitsIsSentAheadTogether(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		n.Delay("a", "b", 10*time.Millisecond)
		p.a.SendAhead(1, p.all[1:2])
		synctest.Wait() // it is on its way
		p.a.SendAhead(1, p.all[2:3])
		p.a.SendAhead(1, p.all[3:4])
		p.append(2, 4, true)
		p.has(4, 3) // entry 2, then 3 and 4
	})
}

func TestNothingIsSentAheadOutOfPlace(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.ahead(3, 3) // 2 is missing
		p.has(1, 1)
		p.append(2, 3, true)
		p.has(3, 2)

		other := []*raft.Log{{Index: 4, Term: 3}} // of a term in which raft has asked for nothing
		p.a.SendAhead(1, other)
		synctest.Wait()
		p.has(3, 2)

		time.Sleep(time.Second) // raft has lost interest: the member was removed
		p.ahead(4, 4)
		p.has(3, 2)

		p.append(4, 4, true)
		p.has(4, 3)
		large := entries(4, 1, MaxMessageBytes) // raft must say that it can not be sent
		large[0].Term = 2
		p.a.SendAhead(1, large)
		synctest.Wait()
		p.has(4, 3)
	})
}

func TestARefusalAheadIsRaftsToHear(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.f.refuse = 2
		p.ahead(2, 2)
		p.has(1, 2)
		p.append(2, 2, true) // asked again, by raft
		p.has(2, 3)
		p.f.refuse = 4
		p.ahead(3, 3)
		p.ahead(4, 4) // nothing is known to be there any more
		p.has(2, 4)
		p.f.refuse = 5
		p.append(3, 4, false)
	})
}

func TestAnOldAnswerAheadDoesNotCount(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.ahead(2, 2)
		time.Sleep(time.Second) // the leader's disk was slow: raft would take it for a contact of now
		p.append(2, 2, false)   // and this follower, unlike raft's, does not know the entry again
		p.has(2, 3)
	})
}

func TestAnotherTermForgetsWhatWasSentAhead(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.ahead(2, 2)
		req := appendRequest("a", p.all[1:2])
		req.Term, req.PrevLogTerm = 3, 2
		var resp raft.AppendEntriesResponse
		if err := p.a.AppendEntries("b", "b:1", req, &resp); err != nil || resp.Term != 3 || p.f.parts != 3 {
			t.Fatalf("%+v, %v after %d requests", resp, err, p.f.parts)
		}
	})
}

// What one process acknowledged is not another's: b was removed, and joined anew
// elsewhere with an empty directory.
func TestAnotherAddressAcknowledgedNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.ahead(2, 3)
		p.has(3, 2)
		if resp, err := p.appendTo("nowhere:1", 2, 3); err == nil {
			t.Errorf("an answer of nobody: %+v", resp)
		}

		l, err := n.Listen("b2:1")
		if err != nil {
			t.Fatal(err)
		}
		cfg := testConfig("b", "b2:1")
		cfg.Dial = n.Dialer("b2")
		other := &follower{}
		consume(t, startOn(t, l, cfg), other.answer)
		if resp, err := p.appendTo("b2:1", 2, 3); err != nil || resp.Success || other.parts != 1 {
			t.Errorf("%+v, %v after %d requests to the new member", resp, err, other.parts)
		}
	})
}

// A follower's log is emptied when it installs a snapshot: what was acknowledged
// before is gone.
func TestASnapshotForgetsWhatWasSentAhead(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := &aheadPair{T: t, a: start(t, n, "a"), f: &follower{}, all: entries(0, 100, 10)}
		consume(t, start(t, n, "b"), func(rpc raft.RPC) {
			if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				echo(rpc)
				p.f.logs = nil // as raft v1.8.0 does
				return
			}
			p.f.answer(rpc)
		})
		p.begin()
		p.ahead(2, 20)
		p.has(20, 2)
		var resp raft.InstallSnapshotResponse
		if err := p.a.InstallSnapshot("b", "b:1", snapshotRequest("a", 0), &resp, strings.NewReader("")); err != nil || !resp.Success {
			t.Fatalf("%+v, %v", resp, err)
		}
		if resp, err := p.appendTo("b:1", 10, 20); err != nil || resp.Success {
			t.Errorf("entries count as stored that the follower dropped: %+v, %v", resp, err)
		}
	})
}

// What raft asks for without entries does not wait until nothing is sent ahead.
func TestAnEmptyRequestGetsItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		p := newAheadPair(t, n)
		p.all = entries(0, 5000, 10)
		n.Delay("a", "b", 5*time.Millisecond)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					p.a.SendAhead(1, p.all[i:i+1])
				}
			}
		}()
		time.Sleep(20 * time.Millisecond)
		req := appendRequest("a", nil)
		req.PrevLogEntry, req.PrevLogTerm = 1, 2
		within(t, 50*time.Millisecond, func() { p.a.AppendEntries("b", "b:1", req, &raft.AppendEntriesResponse{}) })
		close(stop)
		<-done
	})
}
