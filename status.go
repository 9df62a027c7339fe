package replkv

import (
	"time"

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
	// LastContact is when the leader was last heard of; zero if never. On the
	// leader itself: now.
	LastContact time.Time
	// LastElection is the newest change of leader that this member saw.
	LastElection Election

	Revision          Revision // of this member's state
	CompactedRevision Revision
	SweptRevision     Revision // this member has removed what is superseded up to here
	Leases            int      // of this member's state
	Watchers          int      // Watch loops under way on this member
	StateBytes        int64    // on disk
	LogBytes          int64    // of the entries in the log
	QuotaBytes        int64    // Config.QuotaBytes
	// QuotaExceeded: this member refuses what makes the state grow (ErrQuota). It may
	// be the leader's quota that is exceeded: see Config.QuotaBytes.
	QuotaExceeded bool
	// Disk is "ok", "stalled" (a write hangs, or waits for flushes) or "failed".
	Disk string

	MembershipIndex uint64 // of the newest configuration applied here
	Members         []MemberStatus
	// MayVote is false while this member's directory is not proven to be whole:
	// it was replaced, or has lost what it had acknowledged.
	MayVote bool
	Err     error // what stopped the store; nil while it works
}

// Election is a change of leader.
type Election struct {
	At       time.Time // zero if there was none since Open
	Term     uint64
	LeaderID string
	Reason   string // for operators
}

// MemberStatus is a row of the latest configuration.
type MemberStatus struct {
	Member
	// LastError is the outcome of the newest RPC to this member; nil if it was
	// answered.
	LastError error
	// LastContact is when this member last answered an RPC of ours; zero if it
	// has not since Open. For the member itself: now.
	LastContact time.Time
	// MatchIndex is the newest entry that the member is known to have, and Lag how
	// many it lacks of this member's log. Only the leader knows: 0 elsewhere.
	MatchIndex, Lag uint64
}

// Status returns what this member knows. It does not block, and works on a
// store that has stopped.
func (db *DB) Status() Status {
	st, now := db.state.State(), time.Now()
	s := Status{ID: db.cfg.ID, Addr: db.cfg.Addr, Role: "stopped", AppliedIndex: st.Index, Term: db.raft.CurrentTerm(),
		Revision: st.Revision, CompactedRevision: st.Compacted, SweptRevision: db.state.Swept(), Err: db.Err(), MembershipIndex: st.ConfigIndex,
		CommitIndex: db.raft.CommitIndex(), LastLogIndex: db.raft.LastIndex(), LastContact: db.raft.LastContact(),
		LastElection: db.leads.last(), MayVote: db.proof.whole.Load(), Disk: db.disk(), Leases: db.state.LeaseCount(), Watchers: db.watches.Watchers()}
	leads := false
	s.QuotaBytes = db.cfg.QuotaBytes
	if s.Err == nil {
		s.QuotaExceeded = db.quota.refusal() != nil
		s.Role = role(db.raft.State())
		s.LeaderID, s.LeaderAddr, leads = db.leader()
		s.StateBytes, _ = db.state.Size()
		s.LogBytes = db.guard.BytesFrom(0)
	}
	if leads {
		s.LastContact = now
	}
	for _, m := range db.configuration().Servers {
		n := db.peers.get(string(m.ID))
		row := MemberStatus{Member: Member{ID: string(m.ID), Addr: string(m.Address), Nonvoter: m.Suffrage != raft.Voter},
			LastError: n.err, LastContact: n.contact}
		if row.ID == db.cfg.ID {
			row.LastContact, n.matched = now, s.LastLogIndex
		}
		if leads {
			row.MatchIndex, row.Lag = n.matched, s.LastLogIndex-min(n.matched, s.LastLogIndex)
		}
		s.Members = append(s.Members, row)
	}
	return s
}

func (db *DB) disk() string {
	switch {
	case db.guard.Err() != nil || db.state.Err() != nil:
		return "failed"
	case db.wlog.pending() > db.cfg.ElectionTimeout:
		return "stalled"
	}
	return "ok"
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
		HashLeases: db.state.HashLeases,
		Plant:      db.state.Plant,
		Knows: func(other any) bool {
			o := other.(*DB)
			m, _ := db.state.Member(o.cfg.ID)
			return m.Start == o.present
		},
		Installed: func() int { return int(db.counts.snapshotsInstalled.Load()) },
		FirstIndex: func() uint64 {
			first, _ := db.guard.FirstIndex()
			return first
		},
		Leaks: func() string {
			db.mu.Lock()
			defer db.mu.Unlock()
			return db.left
		},
	}
}
