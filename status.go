package replkv

import (
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/hook"
)

// Status is what a member knows of itself and its cluster, without asking
// anybody.
type Status struct {
	ID, Addr   string
	Role       string // "leader", "follower", "candidate" or "stopped"
	LeaderID   string // "" if this member knows none
	LeaderAddr string
	Term       uint64

	CommitIndex  uint64 // the newest entry this member knows to be committed
	AppliedIndex uint64 // the newest entry in the state machine
	LastLogIndex uint64

	Revision          Revision // of this member's state
	CompactedRevision Revision
	StateBytes        int64 // on disk

	Members []MemberStatus
	Err     error // what stopped the store; nil while it works
}

// MemberStatus is a row of the latest configuration.
type MemberStatus struct {
	Member
	// LastError is the outcome of the newest RPC to this member; nil if it was
	// answered.
	LastError error
}

// Status returns what this member knows. It does not block, and works on a
// store that has stopped.
func (db *DB) Status() Status {
	st := db.state.State()
	s := Status{ID: db.cfg.ID, Addr: db.cfg.Addr, Role: "stopped", AppliedIndex: st.Index, Term: db.raft.CurrentTerm(),
		Revision: st.Revision, CompactedRevision: st.Compacted, Err: db.Err(),
		CommitIndex: db.raft.CommitIndex(), LastLogIndex: db.raft.LastIndex()}
	if s.Err == nil {
		s.Role = role(db.raft.State())
		s.LeaderID, s.LeaderAddr, _ = db.leader()
		s.StateBytes, _ = db.state.Size()
	}
	for _, m := range db.configuration().Servers {
		s.Members = append(s.Members, MemberStatus{LastError: db.peers.get(string(m.ID)),
			Member: Member{ID: string(m.ID), Addr: string(m.Address), Nonvoter: m.Suffrage != raft.Voter}})
	}
	return s
}

func role(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Shutdown:
		return "stopped"
	}
	return "follower"
}

// insides serves the checks of tests.
func (db *DB) insides() hook.Insides {
	return hook.Insides{
		HashAt: func(rev int64) ([32]byte, int, error) { return db.state.HashAt(Revision(rev)) },
		Chain: func() (uint64, [32]byte) {
			st := db.state.State()
			return st.Index, st.Chain
		},
		Plant:     db.state.Plant,
		Installed: func() int { return int(db.snaps.installed.Load()) },
		Leaks: func() string {
			db.mu.Lock()
			defer db.mu.Unlock()
			return db.left
		},
	}
}
