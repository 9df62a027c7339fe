package replkv

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/raftlog"
)

// watchedLog is the log as raft sees it: it measures the writes, and knows which
// one is under way, so that a disk that hangs is seen before the write deadline. And
// it knows the newest entry that an installed snapshot stands for.
type watchedLog struct {
	*raftlog.Guard
	db *DB
	// raft is set once NewRaft has returned: its goroutines run before.
	raft atomic.Pointer[raft.Raft]
	// began is when the write under way did; nil: none is. raft makes one write at a
	// time. A time.Time and not a number, since the wall clock may be set meanwhile.
	began atomic.Pointer[time.Time]
	// base is the last entry of the state that was installed, or opened with. It is
	// committed, so no leader has another at its index.
	base atomic.Pointer[raft.Log]
}

// rebase says that the log goes on behind st, and may have nothing before.
func (l *watchedLog) rebase(st store.State) {
	l.base.Store(&raft.Log{Index: st.Index, Term: st.Term, Type: raft.LogNoop})
}

// GetLog knows the base, too. raft v1.8.0, which empties the log when it installs a
// snapshot, compares an append that follows the snapshot only with the newest entry it
// has: one that comes a second time, or, as here, after others were sent ahead, it
// refused, and the leader went back one entry at a time, to the end of its log, and sent
// the state once more. The thesis (section 5.1) has the snapshot's index and term kept
// for this comparison.
//
// Invariant: raft never sends the entry that is made up here. It sends one behind another
// that it has found, or index 1; and a log that lacks the base has nothing before it.
func (l *watchedLog) GetLog(index uint64, entry *raft.Log) error {
	err := l.Guard.GetLog(index, entry)
	if base := l.base.Load(); errors.Is(err, raft.ErrLogNotFound) && base.Index == index && index > 1 {
		*entry = *base
		return nil
	}
	return err
}

func (l *watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *watchedLog) StoreLogs(entries []*raft.Log) error {
	began := time.Now()
	l.began.Store(&began)
	defer l.began.Store(nil) // also when the guard ends raft's goroutine
	// On raft's main goroutine, which alone changes its state: who leads now made
	// these entries, and is about to write them.
	if r := l.raft.Load(); r != nil && r.State() == raft.Leader && r.CurrentTerm() == entries[0].Term {
		l.db.trans.SendAhead(r.CommitIndex(), entries)
	}
	err := l.Guard.StoreLogs(entries)
	l.db.counts.syncLatency.since(began)
	return err
}

// pending returns how long the write under way has taken; 0 if there is none.
func (l *watchedLog) pending() time.Duration {
	if began := l.began.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

// watch tells of writes that take long, until the store stops.
func (l *watchedLog) watch() {
	limit := l.db.cfg.ElectionTimeout
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for stalled := time.Duration(0); ; {
		select {
		case <-l.db.ctx.Done():
			return
		case <-tick.C:
		}
		switch p := l.pending(); {
		case p > limit && stalled == 0:
			stalled = p
			l.db.log.Warn("a write to the log takes long; is the disk all right?", "so far", p)
			l.db.events.stall(StallEvent{For: p})
		case p > limit:
			stalled = p
		case stalled > 0:
			l.db.log.Info("the write to the log is over", "took at least", stalled)
			l.db.events.stall(StallEvent{For: stalled, Over: true})
			stalled = 0
		}
	}
}
