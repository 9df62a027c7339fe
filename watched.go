package replkv

import (
	"io"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/transport"
)

// watchedTransport is the transport as raft sees it: it notes who is reached
// and how far followers are, and lets raft ask for votes only while this member
// may.
type watchedTransport struct {
	*transport.Transport
	db *DB
}

func (t watchedTransport) note(id raft.ServerID, err error) { t.db.reached(string(id), err) }

func (t watchedTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	plain, stamp := t.db.reads.conf.stampFor(string(id)) // before it is sent
	err := t.Transport.AppendEntries(id, to, req, resp)
	t.note(id, err)
	// Only a heartbeat is surely sent now: entries may have been sent ahead.
	heartbeat := req.PrevLogEntry == 0 && len(req.Entries) == 0
	if plain != nil && err == nil && heartbeat && resp.Term == req.Term {
		t.db.reads.conf.answer(plain, stamp, resp.Term, true)
	}
	if err != nil || !resp.Success || heartbeat {
		return err
	}
	matched := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		matched = req.Entries[n-1].Index
		t.db.snaps.feeds.matched(id, matched)
	}
	t.db.peers.progress(string(id), matched, t.db.raft.LastIndex())
	return nil
}

// InstallSnapshot learns which follower the stream is for.
func (t watchedTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if r, ok := data.(*feedReader); ok {
		t.db.snaps.feeds.begin(id, r.pin)
	}
	began := time.Now()
	t.db.counts.snapshotsSent.Add(1)
	err := t.Transport.InstallSnapshot(id, to, req, resp, data)
	t.note(id, err)
	t.db.events.snapshot(t.db.cfg.Events.SnapshotSent,
		SnapshotEvent{Index: req.LastLogIndex, Bytes: req.Size, Duration: time.Since(began), Peer: string(id), Err: err})
	return err
}

func (t watchedTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.db.proof.mayVote(); err != nil {
		return err
	}
	err := t.Transport.RequestVote(id, to, req, resp)
	t.note(id, err)
	return err
}

// RequestPreVote asks again while the answer is no and this member stands. The
// other may not have noticed yet that the leader is gone; and if its log is the
// shorter one it cannot be elected itself, and would have to wait until raft stands
// anew, one to two election timeouts later. A pre-vote binds nobody.
func (t watchedTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.db.proof.mayVote(); err != nil {
		return err
	}
	limit := t.db.cfg.ElectionTimeout // raft stands anew after that, and asks itself
	stands := func() bool {
		return t.db.raft.State() == raft.Candidate && t.db.raft.CurrentTerm()+1 == req.Term
	}
	// Not more often: each no is a line in the other's log.
	for began, wait, again := time.Now(), limit/20, false; ; wait, again = limit/10, true {
		err := t.Transport.RequestPreVote(id, to, req, resp)
		t.note(id, err)
		if err == nil && resp.Granted && again {
			// It may have begun to stand itself, and say yes to all: who votes for
			// himself now, splits the vote.
			pauseFor(t.db.ctx, nil, limit/10)
		}
		if err != nil || resp.Granted || resp.Term > req.Term || !stands() || time.Since(began) > limit {
			return err
		}
		pauseFor(t.db.ctx, nil, wait/2+rand.N(wait))
		if t.db.ctx.Err() != nil {
			return raft.ErrTransportShutdown
		}
	}
}
