package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/memnet"
	"github.com/replkv/replkv/transport/peerpb"
)

// TestAnswerIsChecked: a vote or an acknowledgement counts only if it comes
// from the directory that the asker knows under the peer's id.
func TestAnswerIsChecked(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		wiped := false
		a := start(t, n, "a", func(c *Config) {
			c.CheckPeer = func(id Identity) error {
				if wiped && id.From == "b" {
					return fmt.Errorf("%w: of %s", kv.ErrStaleIdentity, id.From)
				}
				return nil
			}
		})
		b := start(t, n, "b", withHandler)
		consume(t, b, echo)
		calls := map[string]func() error{
			"vote": func() error {
				return a.RequestVote("b", "b:1", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 2}, &raft.RequestVoteResponse{})
			},
			"pre-vote": func() error {
				return a.RequestPreVote("b", "b:1", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 2}, &raft.RequestPreVoteResponse{})
			},
			"heartbeat": func() error {
				return a.AppendEntries("b", "b:1", appendHeartbeat("a"), &raft.AppendEntriesResponse{})
			},
			"append": func() error {
				return a.AppendEntries("b", "b:1", appendRequest("a", entries(0, 1, 1)), &raft.AppendEntriesResponse{})
			},
			"snapshot": func() error {
				return a.InstallSnapshot("b", "b:1", snapshotRequest("a", 3), &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("abc")))
			},
			"confirm": func() error {
				_, _, err := a.Confirm(t.Context(), "b", "b:1", 1)
				return err
			},
		}
		for name, call := range calls {
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		wiped = true
		for p := range a.mu.peers {
			a.mu.peers[p].close() // else the append stream's first check counts for its eight seconds
			delete(a.mu.peers, p)
		}
		for name, call := range calls {
			if err := call(); err == nil {
				t.Errorf("%s: the answer of a wiped member counted", name)
			}
		}
	})
}

// TestVotesAreChecked: what may make a member vote or campaign does not reach
// raft while it must not.
func TestVotesAreChecked(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a")
		var asked []uint64
		b := start(t, n, "b", func(c *Config) {
			c.CheckVote = func(last uint64) error {
				asked = append(asked, last)
				if last == 1 {
					return nil
				}
				return errors.New("below the floor")
			}
		})
		consume(t, b, echo)
		vote := func(last uint64) error {
			return a.RequestVote("b", "b:1", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: 2, LastLogIndex: last}, &raft.RequestVoteResponse{})
		}
		if err := vote(1); err != nil {
			t.Error(err)
		}
		if err := vote(5); err == nil {
			t.Error("a vote was granted")
		}
		if err := a.RequestPreVote("b", "b:1", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: 2, LastLogIndex: 6}, &raft.RequestPreVoteResponse{}); err == nil {
			t.Error("a pre-vote was granted")
		}
		if err := a.TimeoutNow("b", "b:1", &raft.TimeoutNowRequest{RPCHeader: header("a")}, &raft.TimeoutNowResponse{}); err == nil {
			t.Error("it campaigns")
		}
		if fmt.Sprint(asked) != "[1 5 6 0]" {
			t.Errorf("asked about %v", asked)
		}
	})
}

// TestHelloAndJoin: who knows only an address finds out who is there, whatever
// its cluster, and a joiner is of none.
func TestHelloAndJoin(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a", func(c *Config) { c.Cluster = [16]byte{} })
		var from Identity
		b := start(t, n, "b", func(c *Config) {
			c.Handler = handler{join: func(_ context.Context, id Identity, m *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
				from = id
				return &peerpb.JoinResponse{Cluster: []byte("c"), Index: 7}, nil
			}}
		})
		id, hello, err := a.Hello(t.Context(), "b:1")
		if err != nil || id.From != "b" || id.Addr != "b:1" || id.Cluster != b.cfg.Cluster || hello.GetLeaderId() != "l" {
			t.Fatalf("%+v, %v, %v", id, hello, err)
		}
		id, resp, err := a.Join(t.Context(), "b:1", &peerpb.JoinRequest{Id: "a"})
		if err != nil || id.From != "b" || resp.GetIndex() != 7 {
			t.Fatalf("%+v, %v, %v", id, resp, err)
		}
		if from.From != "a" || from.Addr != "a:1" || from.Incarnation != a.cfg.Incarnation || len(from.Starts) != 1 {
			t.Fatalf("%+v", from)
		}
	})
}
