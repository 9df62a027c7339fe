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
type historian struct{ db *DB }

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
	st := db.state.State()
	if db.raft.State() != raft.Leader || st.CommandTerm != db.raft.CurrentTerm() {
		return nil
	}
	target := Revision(0)
	if age := db.cfg.HistoryAge; age > 0 {
		var err error
		if target, err = db.state.RevisionAt(uint64(max(0, db.cfg.edges.Now().Add(-age).UnixMilli()))); err != nil {
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
