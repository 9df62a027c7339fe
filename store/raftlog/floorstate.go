package raftlog

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// FloorState is what a member has promised to others: what it holds must not
// be less.
type FloorState struct {
	Term     uint64 // the highest term it has been in
	VoteTerm uint64 // the last term it voted in
	// Candidate is who got that vote, as raft stores it, cut to
	// maxFloorCandidate bytes.
	Candidate string
	Index     uint64 // the log's last entry
	IndexTerm uint64 // and its term; 0: not known
	Applied   uint64 // the index it has applied
}

// Held is what a member has after a start.
type Held struct {
	First, Last uint64 // the log's ends; 0: it is empty
	// TermAt is the term of the log's entry at FloorState.Index; 0 if there is none.
	TermAt         uint64
	Applied        uint64 // the state's durable index
	Term, VoteTerm uint64 // of the stable store
	Candidate      string
}

// Check says what a member lacks of what it promised; "" if nothing. Entries
// may have gone because they are applied, and the state is durable before the
// log gives them up: so the greater of both counts. That entries at or below
// Applied are of the right term is the state's to check.
func (s FloorState) Check(h Held) string {
	switch have := max(h.Last, h.Applied); {
	case have < s.Index:
		return fmt.Sprintf("the log ends at %d and the state at %d; entry %d was there", h.Last, h.Applied, s.Index)
	case have < s.Applied:
		return fmt.Sprintf("the log ends at %d and the state at %d; entry %d was applied", h.Last, h.Applied, s.Applied)
	case s.IndexTerm != 0 && h.Applied < s.Index && h.First <= s.Index && s.Index <= h.Last && h.TermAt != s.IndexTerm:
		return fmt.Sprintf("entry %d is of term %d; it was of term %d", s.Index, h.TermAt, s.IndexTerm)
	case h.Term < s.Term:
		return fmt.Sprintf("the term is %d; it was %d", h.Term, s.Term)
	case h.VoteTerm < s.VoteTerm:
		return fmt.Sprintf("the last vote is of term %d; it was of term %d", h.VoteTerm, s.VoteTerm)
	case h.VoteTerm == s.VoteTerm && cutCandidate(h.Candidate) != s.Candidate:
		return fmt.Sprintf("the vote of term %d is for %q; it was for %q", h.VoteTerm, h.Candidate, s.Candidate)
	}
	return ""
}

// reached says whether a log that ends in entry (index, term), fed by a
// leader, has all that was promised: it is up to date with it in raft's order.
func (s FloorState) reached(end raft.Log, applied uint64) bool {
	if max(end.Index, applied) < s.Applied {
		return false
	}
	if applied >= s.Index || end.Term > s.IndexTerm && s.IndexTerm != 0 {
		return true
	}
	return end.Index >= s.Index && end.Term >= s.IndexTerm
}

// cutCandidate: a vote for a longer address counts as one for its beginning.
func cutCandidate(candidate string) string { return candidate[:min(len(candidate), maxFloorCandidate)] }
