package replkv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/transport"
)

// leaderWatch tells who leads and when that changes, and proposes the epoch
// command when this member begins to.
type leaderWatch struct {
	db       *DB
	observed chan raft.Observation
	observer *raft.Observer

	mu     sync.Mutex      // protects the fields below
	reign  context.Context // ends at the next change of leader or term
	change context.CancelFunc
}

func newLeaderWatch(db *DB) *leaderWatch {
	w := &leaderWatch{db: db, observed: make(chan raft.Observation, 64)}
	w.reign, w.change = context.WithCancel(context.Background())
	w.observer = raft.NewObserver(w.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	return w
}

// run follows raft's observations. They may be dropped when they come in
// bursts, so a ticker looks, too.
func (w *leaderWatch) run() {
	tick := time.NewTicker(w.db.cfg.ElectionTimeout / 2)
	defer tick.Stop()
	term, leader, epoch := uint64(0), raft.ServerID(""), uint64(0)
	for {
		select {
		case <-w.db.ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			w.change()
			return
		case <-w.observed:
		case <-tick.C:
		}
		_, id := w.db.raft.LeaderWithID()
		t := w.db.raft.CurrentTerm()
		if id != leader || t != term {
			term, leader = t, id
			if id != "" {
				w.db.log.Info("leader", "id", id, "term", t)
			}
			w.wake()
		}
		if t != epoch && w.db.raft.State() == raft.Leader {
			epoch = t
			w.proposeEpoch(t)
		}
	}
}

func (w *leaderWatch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.change()
	w.reign, w.change = context.WithCancel(context.Background())
}

// current returns a context that ends at the next change of leader or term.
func (w *leaderWatch) current() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reign
}

// during returns a ctx that also ends with the reign: a request to a leader
// that was deposed, or cannot be reached any more, may never be answered.
func during(ctx, reign context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(reign, cancel)
	return ctx, func() { stop(); cancel() }
}

// proposeEpoch commits the first command of the term, after which reads may be
// served: until it is applied, this member may not know what its predecessors
// committed. A real command, since raft's own no-op never reaches the state
// machine.
func (w *leaderWatch) proposeEpoch(term uint64) {
	raw := unsessioned(&command.Op{Kind: command.Epoch, Member: []byte(w.db.cfg.ID)})
	w.db.background(func() {
		for w.db.ctx.Err() == nil && w.db.raft.State() == raft.Leader && w.db.raft.CurrentTerm() == term {
			if a := w.db.entries.submit(w.db.ctx, raw); a.err == nil {
				return
			}
			pause(w.db.ctx, nil)
		}
	})
}

// unsessioned encodes a batch of one operation that needs no session.
func unsessioned(op *command.Op) []byte {
	return command.AppendOp(command.AppendBatchHeader(nil, command.NoSession, 0, 0, 1), op)
}

// pause waits a moment, or less if wake is closed or ctx ends.
func pause(ctx context.Context, wake <-chan struct{}) { pauseFor(ctx, wake, 10*time.Millisecond) }

func pauseFor(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// leader returns who leads, as far as this member knows.
func (db *DB) leader() (id, addr string, self bool) {
	a, i := db.raft.LeaderWithID()
	return string(i), string(a), string(i) == db.cfg.ID && i != ""
}

// peerErrors keeps the last error of each peer, so that ErrNoLeader can say
// who was not reached and why, and tells the log when that changes.
type peerErrors struct {
	log  *slog.Logger
	mu   sync.Mutex // protects last
	last map[string]error
}

func (p *peerErrors) note(id string, err error) {
	if errors.Is(err, context.Canceled) {
		return // our own doing
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.last[id]
	if err == nil {
		delete(p.last, id)
	} else {
		if p.last == nil {
			p.last = make(map[string]error)
		}
		p.last[id] = err
	}
	switch {
	case err != nil && before == nil:
		p.log.Warn("a member is not reached", "id", id, "error", err)
	case err == nil && before != nil:
		p.log.Info("a member is reached again", "id", id)
	}
}

func (p *peerErrors) get(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[id]
}

// notReached returns the peers whose last RPC failed, as text, and the first
// error that says what is wrong rather than that nobody answers.
func (p *peerErrors) notReached() (text string, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var parts []string
	for id, err := range p.last {
		parts = append(parts, fmt.Sprintf("%s: %v", id, err))
		if errors.Is(wireerr.FromStatus(err), ErrWrongCluster) {
			cause = ErrWrongCluster
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, "; "), cause
}

// noLeader makes the error of a call that found no leader in time.
func (db *DB) noLeader() error {
	text, cause := db.peers.notReached()
	switch {
	case cause != nil:
		return fmt.Errorf("%w: %w: not reached: %s", ErrNoLeader, cause, text)
	case text != "":
		return fmt.Errorf("%w: not reached: %s", ErrNoLeader, text)
	}
	return ErrNoLeader
}

// watchedTransport notes which peers raft reaches.
type watchedTransport struct {
	*transport.Transport
	peers *peerErrors
	feeds *feeds
}

func (t watchedTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.Transport.AppendEntries(id, to, req, resp)
	t.peers.note(string(id), err)
	if err == nil && resp.Success && len(req.Entries) > 0 {
		t.feeds.matched(id, req.Entries[len(req.Entries)-1].Index)
	}
	return err
}

// InstallSnapshot learns which follower the stream is for.
func (t watchedTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if r, ok := data.(*feedReader); ok {
		t.feeds.begin(id, r.pin)
	}
	return t.Transport.InstallSnapshot(id, to, req, resp, data)
}

func (t watchedTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := t.Transport.RequestVote(id, to, req, resp)
	t.peers.note(string(id), err)
	return err
}

func (t watchedTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := t.Transport.RequestPreVote(id, to, req, resp)
	t.peers.note(string(id), err)
	return err
}
