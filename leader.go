package replkv

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
)

// leaderWatch tells who leads and when that changes, and proposes the epoch
// command when this member begins to.
type leaderWatch struct {
	db       *DB
	observed chan raft.Observation
	observer *raft.Observer
	asked    atomic.Bool // the leader wants this member to succeed it

	mu       sync.Mutex      // protects the fields below
	reign    context.Context // ends at the next change of leader or term
	change   context.CancelFunc
	election Election // the newest change
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
			w.changed(string(leader), string(id), term, t)
			term, leader = t, id
			w.wake()
		}
		w.db.tendLeases()
		if t != epoch && w.db.raft.State() == raft.Leader {
			epoch = t
			w.proposeEpoch(t)
		}
	}
}

// changed keeps and tells who leads now, and why, as far as it can be seen from
// here.
func (w *leaderWatch) changed(before, now string, oldTerm, term uint64) {
	e := Election{At: time.Now(), Term: term, LeaderID: now}
	asked := now != "" && w.asked.Swap(false) // who is asked knows no leader at first
	switch self := w.db.cfg.ID; {
	case now == "" && before == self:
		e.Reason = "this member does not lead any more: a quorum does not answer, or another was elected"
	case now == "":
		e.Reason = "nothing was heard of the leader " + before
	case now == self && asked:
		e.Reason = "leadership was handed to this member"
	case now == self && len(w.db.voters()) == 1:
		e.Reason = "it is the only voter"
	case now == self:
		e.Reason = fmt.Sprintf("this member was elected: it had heard of no leader of term %d in time", oldTerm)
	case before == "" || before == now:
		e.Reason = now + " was elected"
	default:
		e.Reason = fmt.Sprintf("%s was elected after %s", now, before)
	}
	w.mu.Lock()
	w.election = e
	w.mu.Unlock()
	w.db.peers.newReign()
	if now != "" {
		w.db.counts.leaderChanges.Add(1)
		w.db.log.Info("leader", "id", now, "term", term, "why", e.Reason)
	}
	w.db.events.leader(e)
}

// last is the newest change of leader.
func (w *leaderWatch) last() Election {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.election
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
