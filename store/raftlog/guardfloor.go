package raftlog

import (
	"errors"

	"github.com/hashicorp/raft"
)

// raft's keys in the stable store.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// CheckFloor compares what the store holds with GuardOptions.Floor, and says
// what is missing; "" if nothing is, or there is no floor. Call it once,
// before anything changes the log and before Start.
//
// If something is missing, the member is below its floor: others rely on
// promises that it does not remember. It must RaiseStable, and neither vote nor
// campaign until it is [Guard.Whole]. Until then the floor stays, but for
// conflicts that a leader removes and for new terms.
func (g *Guard) CheckFloor() (problem string, err error) {
	if g.keeper == nil {
		return "", nil
	}
	s := g.keeper.floor.State()
	h, end, err := g.held(s.Index)
	if err != nil {
		return "", err
	}
	h.Applied = g.keeper.applied()
	problem = s.Check(h)
	k := g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.end, k.mu.fed, k.mu.began, k.mu.below = end, false, h.Applied, problem != ""
	return problem, nil
}

// held reads what the store has, and its last entry.
func (g *Guard) held(floorIndex uint64) (h Held, end raft.Log, err error) {
	if h.First, err = g.FirstIndex(); err != nil {
		return h, end, err
	}
	if h.Last, err = g.LastIndex(); err != nil {
		return h, end, err
	}
	end.Index = h.Last
	if end.Term, err = g.termOf(h.Last); err != nil {
		return h, end, err
	}
	if h.TermAt, err = g.termOf(floorIndex); err != nil {
		return h, end, err
	}
	if h.Term, err = g.stable(keyCurrentTerm); err != nil {
		return h, end, err
	}
	if h.VoteTerm, err = g.stable(keyLastVoteTerm); err != nil {
		return h, end, err
	}
	candidate, err := g.Get([]byte(keyLastVoteCand))
	if err != nil && !isKeyNotFound(err) {
		return h, end, err
	}
	h.Candidate = string(candidate)
	return h, end, nil
}

// termOf is the term of the entry at index; 0 if there is none.
func (g *Guard) termOf(index uint64) (uint64, error) {
	var entry raft.Log
	if index == 0 {
		return 0, nil
	}
	if err := g.GetLog(index, &entry); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return 0, err
	}
	return entry.Term, nil
}

// stable is a number of the stable store; 0 if there is none.
func (g *Guard) stable(key string) (uint64, error) {
	n, err := g.GetUint64([]byte(key))
	if err != nil && !isKeyNotFound(err) {
		return 0, err
	}
	return n, nil
}

// RaiseStable brings the stable store's term and vote up to the floor's, so
// that a member that forgot them never acts in an old term again. Call it
// before Start.
func (g *Guard) RaiseStable() error {
	if g.keeper == nil {
		return nil
	}
	s := g.keeper.floor.State()
	h, _, err := g.held(0)
	if err != nil {
		return err
	}
	if h.VoteTerm < s.VoteTerm || h.VoteTerm == s.VoteTerm && cutCandidate(h.Candidate) != s.Candidate {
		if err := g.SetUint64([]byte(keyLastVoteTerm), s.VoteTerm); err != nil {
			return err
		}
		if err := g.Set([]byte(keyLastVoteCand), []byte(s.Candidate)); err != nil {
			return err
		}
	}
	if h.Term < s.Term {
		return g.SetUint64([]byte(keyCurrentTerm), s.Term)
	}
	return nil
}

// BelowFloor says whether the member lacks what its floor says: CheckFloor
// found so, and Whole was not called since. Any goroutine may ask.
func (g *Guard) BelowFloor() bool {
	if g.keeper == nil {
		return false
	}
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	return g.keeper.mu.below
}

// ReachedFloor says whether a leader has, since CheckFloor, brought log and
// state up to the floor again. It is what Whole needs at least: the floor's
// indexes may be floorInterval older than the last promise, so a caller that
// can should also wait for the end of the log that the leader had at first
// contact. Any goroutine may ask; it costs no read.
func (g *Guard) ReachedFloor() bool {
	if g.keeper == nil {
		return true
	}
	s, applied := g.keeper.floor.State(), g.keeper.applied()
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	fed := g.keeper.mu.fed || applied > g.keeper.mu.began // both need a leader
	return fed && s.reached(g.keeper.mu.end, applied)
}

// Whole says that the member has again, from a leader, all that it promised:
// the floor follows the log from where it stands now, which may be lower. When
// it returns, that is on stable storage. Any goroutine may call it; an error is
// fatal.
func (g *Guard) Whole() error {
	if g.keeper == nil {
		return nil
	}
	if err := g.keeper.whole(); err != nil {
		return g.failed.fail(err)
	}
	return nil
}

// keepTerm is called after SetUint64.
func (g *Guard) keepTerm(key []byte, value uint64) error {
	if g.keeper == nil || string(key) != keyCurrentTerm {
		return nil
	}
	return g.keep("SetUint64", g.keeper.term(value))
}

// keepVote is called after Set; raft stores the vote's term first.
func (g *Guard) keepVote(key, value []byte) error {
	if g.keeper == nil || string(key) != keyLastVoteCand {
		return nil
	}
	term, err := g.stable(keyLastVoteTerm)
	if err != nil {
		return err
	}
	return g.keep("Set", g.keeper.vote(term, value))
}

// keepCut lowers the floor before the entries from low on go.
func (g *Guard) keepCut(first, low uint64) error {
	if g.keeper == nil {
		return nil
	}
	low = max(low, first)
	term, err := g.termOf(low - 1)
	if err != nil {
		return err
	}
	return g.keep("DeleteRange", g.keeper.lower(low-1, term, low == first))
}

// keep turns an error of the floor into what raft gets to see.
func (g *Guard) keep(op string, err error) error {
	if err != nil {
		return g.leave(op, err)
	}
	return nil
}
