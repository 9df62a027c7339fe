package replkv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
)

// Compact gives up the history below revision rev: reads of earlier revisions fail
// with a *CompactedError on all members from then on, reads at rev and above go on.
// The space is freed bit by bit. ErrCompacted if that was given up already,
// ErrFutureRevision if rev has not come yet. The store compacts by itself, as
// Config.HistoryAge and HistoryRevisions say.
func (db *DB) Compact(ctx context.Context, rev Revision) error {
	if rev < 1 {
		return db.wrap("Compact", OutcomeNotDone, fmt.Errorf("%w: revision %d", ErrInvalidArgument, rev))
	}
	_, err := db.write(ctx, "Compact", &command.Op{Kind: command.Compact, Revision: uint64(rev)})
	if errors.Is(err, ErrCompacted) {
		// This member may lag: it is compacted to rev at least.
		err = db.wrap("Compact", OutcomeNotDone, &CompactedError{Revision: rev, Compacted: max(rev, db.state.State().Compacted)})
	}
	return err
}

// historian compacts by Config.HistoryAge and HistoryRevisions, while this member
// leads.
//
// How old a revision is, the log tells by the clock of the proposers, which may be wrong,
// and stays ahead until they catch up if one of them was ahead for a moment. So it counts
// only between moments at which this member has looked, by its monotonic clock.
type historian struct {
	db *DB
	// seen are the revisions applied at some moments, rising, of at most a little more
	// than HistoryAge.
	seen []seenRevision
}

type seenRevision struct {
	at       time.Time // monotonic
	revision Revision
}

// seenSlices is how finely HistoryAge is divided by what is remembered of it.
const seenSlices = 32

// see remembers the revision applied by now.
func (h *historian) see(now time.Time, rev Revision) {
	age := h.db.cfg.HistoryAge
	if n := len(h.seen); n == 0 || now.Sub(h.seen[n-1].at) >= age/seenSlices {
		h.seen = append(h.seen, seenRevision{now, rev})
	}
	for len(h.seen) > 1 && now.Sub(h.seen[1].at) >= age {
		h.seen = h.seen[1:]
	}
}

// aged returns the newest revision that is older than HistoryAge; 0: none is.
func (h *historian) aged(now time.Time) (Revision, error) {
	age := h.db.cfg.HistoryAge
	// Of the first, all is older; of the last, something is younger.
	old, young := Revision(0), h.seen[0].revision
	if now.Sub(h.seen[0].at) >= age {
		old = h.seen[0].revision
		if len(h.seen) > 1 {
			young = h.seen[1].revision
		}
	}
	rev, err := h.db.state.RevisionAt(unixMillis(h.db.cfg.edges.Now().Add(-age)))
	return min(max(rev, old), young), err
}

// unixMillis is how the log tells time, which begins in 1970.
func unixMillis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }

// run looks often enough that history is a tenth longer than asked, at most.
func (h *historian) run() {
	age, revisions := h.db.cfg.HistoryAge, h.db.cfg.HistoryRevisions
	if age < 0 && revisions == 0 {
		return
	}
	every := 10 * time.Second
	if age > 0 {
		every = min(every, age/10)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-h.db.ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.look(); err != nil && h.db.ctx.Err() == nil {
			h.db.log.Warn("history could not be compacted", "error", err)
		}
	}
}

// look compacts if it is worth an entry.
func (h *historian) look() error {
	db := h.db
	st, now := db.state.State(), time.Now()
	if db.cfg.HistoryAge > 0 {
		h.see(now, st.Revision)
	}
	if db.raft.State() != raft.Leader || st.CommandTerm != db.raft.CurrentTerm() {
		return nil
	}
	target := Revision(0)
	if db.cfg.HistoryAge > 0 {
		var err error
		if target, err = h.aged(now); err != nil {
			return err
		}
	}
	if n := Revision(db.cfg.HistoryRevisions); n > 0 && st.Revision-n >= st.Compacted+max(1, n/10) {
		target = max(target, st.Revision-n)
	}
	if target <= st.Compacted {
		return nil
	}
	// Its outcome is seen at the next look.
	a := db.entries.submit(db.ctx, unsessioned(&command.Op{Kind: command.Compact, Revision: uint64(target)}))
	if errors.Is(a.err, raft.ErrNotLeader) || errors.Is(a.err, raft.ErrLeadershipLost) || errors.Is(a.err, raft.ErrLeadershipTransferInProgress) {
		return nil // the next leader's work
	}
	return a.err
}
