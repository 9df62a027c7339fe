package replkv

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/transport/peerpb"
)

// steward does what a leader owes the table of members: it makes voters of
// joiners that have caught up, and writes down where members have moved to.
type steward struct {
	db     *DB
	warned map[string]string // member -> address whose conflict was told
	kept   map[string]bool   // members of whom it was told that they cannot be voters yet
}

func (s *steward) run() {
	tick := time.NewTicker(s.db.cfg.ElectionTimeout / 4)
	defer tick.Stop()
	for {
		select {
		case <-s.db.ctx.Done():
			return
		case <-tick.C:
		}
		if s.db.raft.State() != raft.Leader || s.db.state.State().CommandTerm != s.db.raft.CurrentTerm() {
			continue
		}
		table, err := s.db.membership()
		if err != nil {
			continue
		}
		for _, m := range table.Members {
			if s.move(table, m) || s.promote(m) {
				break // the table has changed
			}
		}
	}
}

// promote makes a voter of a non-voter that is to be one.
func (s *steward) promote(m Member) bool {
	if !m.Nonvoter || !s.db.members.toBeVoter(m.ID) || s.db.members.lacks(m.ID) != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(s.db.ctx, s.db.cfg.RequestTimeout)
	defer cancel()
	_, err := s.db.members.change(ctx, &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_PROMOTE, Id: m.ID})
	switch {
	case err == nil:
		s.db.log.Info("a member has caught up and is a voter now", "id", m.ID)
		delete(s.kept, m.ID)
	case errors.Is(err, ErrUnsafeChange) && !s.kept[m.ID]:
		s.kept[m.ID] = true // once: it is tried again and again
		s.db.log.Warn("a member has caught up, but is kept from being a voter", "id", m.ID, "error", err)
	}
	return err == nil
}

// move writes a member's new address into the table. Until then peers find it
// by what it says itself.
func (s *steward) move(table Membership, m Member) bool {
	addr, known := s.db.peers.resolve(m.ID)
	if m.ID == s.db.cfg.ID {
		addr, known = s.db.cfg.Addr, s.db.cfg.Addr != ""
	}
	if !known || addr == m.Addr {
		return false
	}
	for _, x := range table.Members {
		if x.Addr != addr {
			continue
		}
		if s.warned[m.ID] != addr {
			s.warned[m.ID] = addr
			s.db.log.Warn("a member has moved to an address that the table gives to another; it is found, but the table stays as it is",
				"id", m.ID, "addr", addr, "other", x.ID)
		}
		return false
	}
	ctx, cancel := context.WithTimeout(s.db.ctx, s.db.cfg.RequestTimeout)
	defer cancel()
	err := s.db.members.moved(ctx, table, m, addr)
	if err == nil {
		s.db.log.Info("a member has moved", "id", m.ID, "from", m.Addr, "to", addr)
	} else if !errors.Is(err, ErrNoLeader) {
		s.db.log.Warn("a member's new address could not be written down", "id", m.ID, "addr", addr, "error", err)
	}
	return err == nil
}

// moved changes a member's address in the table, once it answers there.
func (m *members) moved(ctx context.Context, table Membership, x Member, addr string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if x.ID != m.db.cfg.ID {
		cctx, cancel := context.WithTimeout(ctx, m.db.cfg.ElectionTimeout)
		_, _, err := m.db.trans.Confirm(cctx, x.ID, addr, m.db.raft.CurrentTerm())
		cancel()
		if err != nil {
			return err
		}
	}
	_, err := m.propose(ctx, func() raft.IndexFuture {
		id, to := raft.ServerID(x.ID), raft.ServerAddress(addr)
		if x.Nonvoter {
			return m.db.raft.AddNonvoter(id, to, table.Index, enqueueTimeout)
		}
		return m.db.raft.AddVoter(id, to, table.Index, enqueueTimeout)
	})
	return err
}
