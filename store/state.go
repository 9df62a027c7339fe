package store

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// State is where the state machine stands. It commits in the same Pebble
// batch as the data it speaks of.
type State struct {
	// Index and Term are those of the newest entry applied.
	// Invariant: Index never decreases but by Install of an older snapshot,
	// which raft never asks for.
	Index, Term uint64
	// CommandTerm is the Log.Term of the newest *command* applied: a leader of
	// term T may serve linearizable reads once CommandTerm == T.
	CommandTerm uint64
	// Revision is that of the newest change; 1 if there was none.
	Revision kv.Revision
	// Compacted is the logical compaction revision: reads below it fail,
	// whether or not the rows are still there.
	Compacted kv.Revision
	// TimeMillis is replicated time: the greatest proposer time so far.
	TimeMillis uint64
	// ConfigIndex is the index of the newest configuration entry applied.
	ConfigIndex uint64
	// Chain is a running hash of the effects of all entries. Equal commands
	// with different effects show in it.
	Chain [32]byte
}

const stateVersion = 1

func (s *State) append(dst []byte) []byte {
	dst = append(dst, stateVersion)
	for _, v := range [...]uint64{s.Index, s.Term, s.CommandTerm, uint64(s.Revision),
		uint64(s.Compacted), s.TimeMillis, s.ConfigIndex} {
		dst = binary.AppendUvarint(dst, v)
	}
	return append(dst, s.Chain[:]...)
}

func decodeState(b []byte) (State, error) {
	var s State
	if len(b) == 0 {
		return s, fmt.Errorf("%w: empty state row", kv.ErrCorrupt)
	}
	if b[0] != stateVersion {
		return s, fmt.Errorf("%w: state row version %d, this one reads %d", kv.ErrFormatTooNew, b[0], stateVersion)
	}
	b = b[1:]
	var v [7]uint64
	for i := range v {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return s, fmt.Errorf("%w: state row ends early", kv.ErrCorrupt)
		}
		v[i], b = u, b[n:]
	}
	if len(b) != len(s.Chain) {
		return s, fmt.Errorf("%w: state row has %d bytes of hash", kv.ErrCorrupt, len(b))
	}
	s = State{Index: v[0], Term: v[1], CommandTerm: v[2], Revision: kv.Revision(v[3]),
		Compacted: kv.Revision(v[4]), TimeMillis: v[5], ConfigIndex: v[6]}
	copy(s.Chain[:], b)
	return s, nil
}
