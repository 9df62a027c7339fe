package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Sessions make retries exactly-once: a batch (session, seq) has effects at
// most once, however often it is proposed, and later copies get the first
// one's answer (Ongaro's thesis, section 6.3, with a window, since several
// batches of a session are in flight and may commit out of order).

type session struct {
	member    []byte // the member whose session it is; empty: a remote client's
	lowWater  uint64 // results up to here are evicted: their callers have them
	usedAt    uint64 // replicated time of the newest batch
	usedIndex uint64 // index of the entry of the newest batch: breaks ties
	// results has the encoded result of each batch above lowWater.
	// Invariant: its keys lie in (lowWater, lowWater+command.SessionWindow].
	results map[uint64][]byte
}

// sessions is the table of all sessions, the same on all members.
type sessions map[command.SessionID]*session

const sessionVersion = 1

func (s *session) append(dst []byte) []byte {
	dst = append(dst, sessionVersion)
	dst = binary.AppendUvarint(dst, s.lowWater)
	dst = binary.AppendUvarint(dst, s.usedAt)
	dst = binary.AppendUvarint(dst, s.usedIndex)
	return append(dst, s.member...)
}

func decodeSession(b []byte) (*session, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty session row", kv.ErrCorrupt)
	}
	if b[0] != sessionVersion {
		return nil, fmt.Errorf("%w: session row version %d", kv.ErrFormatTooNew, b[0])
	}
	b = b[1:]
	var v [3]uint64
	for i := range v {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: session row ends early", kv.ErrCorrupt)
		}
		v[i], b = u, b[n:]
	}
	return &session{lowWater: v[0], usedAt: v[1], usedIndex: v[2], member: bytes.Clone(b),
		results: make(map[uint64][]byte)}, nil
}

func loadSessions(db *pebble.DB) (sessions, error) {
	out := make(sessions)
	lower, upper := spaceBounds(spaceSession)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, asCorrupt(err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = out.load(it.Key(), it.Value())
	}
	return out, errors.Join(err, asCorrupt(it.Error()), it.Close())
}

func (t sessions) load(k, v []byte) error {
	var id command.SessionID
	const idEnd = 1 + len(id)
	switch len(k) {
	case idEnd + 1: // a session; its row precedes those of its results
		copy(id[:], k[1:])
		s, err := decodeSession(v)
		if err != nil {
			return err
		}
		t[id] = s
	case idEnd + 8 + 1:
		copy(id[:], k[1:])
		s := t[id]
		if s == nil {
			return fmt.Errorf("%w: result of a session that is not there", kv.ErrCorrupt)
		}
		s.results[binary.BigEndian.Uint64(k[idEnd:])] = bytes.Clone(v)
	default:
		return fmt.Errorf("%w: session key %x", kv.ErrCorrupt, k)
	}
	return nil
}

// sessionBatch applies a batch if its session says that it is new.
func (a *applier) sessionBatch(b *command.Batch) (*command.BatchResult, error) {
	if b.Session == command.NoSession {
		res, err := a.batchOps(b)
		if err == nil {
			a.scratch = command.AppendResult(a.scratch, res)
		}
		return res, err
	}
	s := a.sessions[b.Session]
	res := s.refuse(b)
	if res == nil {
		if stored, ok := s.results[b.Seq]; ok {
			return command.DecodeResult(bytes.Clone(stored))
		}
		var err error
		if res, err = a.batchOps(b); err != nil {
			return nil, err
		}
		if err := a.keepResult(b, s, res); err != nil {
			return nil, err
		}
	}
	a.scratch = command.AppendResult(a.scratch, res)
	return res, nil
}

// refuse returns the answer to a batch that must not be applied.
func (s *session) refuse(b *command.Batch) *command.BatchResult {
	switch {
	case s == nil:
		return &command.BatchResult{Status: command.UnknownSession}
	case b.Seq <= s.lowWater:
		return &command.BatchResult{Status: command.BelowLowWater}
	case b.Seq > max(s.lowWater, b.LowWater)+command.SessionWindow || b.LowWater >= b.Seq:
		return &command.BatchResult{Status: command.OutsideWindow}
	}
	return nil
}

// keepResult stores the result of a new batch and evicts those below its
// low-water mark.
func (a *applier) keepResult(b *command.Batch, s *session, res *command.BatchResult) error {
	if b.LowWater > s.lowWater {
		for seq := s.lowWater + 1; seq <= b.LowWater && len(s.results) > 0; seq++ {
			if _, ok := s.results[seq]; !ok {
				continue
			}
			delete(s.results, seq)
			if err := a.batch.Delete(sessionResultKey(b.Session, seq), nil); err != nil {
				return err
			}
		}
		s.lowWater = b.LowWater
	}
	enc := command.AppendResult(nil, res)
	if len(enc) > command.MaxKeptResponse {
		enc = command.AppendResult(nil, res.WithoutResponses())
	}
	s.results[b.Seq] = enc
	s.usedAt, s.usedIndex = a.st.TimeMillis, a.at
	if err := a.batch.Set(sessionResultKey(b.Session, b.Seq), enc, nil); err != nil {
		return err
	}
	return a.batch.Set(sessionKey(b.Session), s.append(nil), nil)
}

// openSession opens a session, and ends the earlier one of the same member:
// what arrives later from its old logs is refused on all members alike, also
// the opening itself: the sessions of a start carry a rising ordinal, and starts
// follow each other (see Member). Opening an open session changes nothing, so
// that it may be retried.
func (a *applier) openSession(op *command.Op) (command.OpStatus, error) {
	if op.Session == command.NoSession {
		return command.Invalid, nil
	}
	if a.sessions[op.Session] != nil {
		return command.OK, nil
	}
	if len(op.Member) > 0 {
		if status, err := a.announce(op); status != command.OK || err != nil {
			return status, err
		}
		if err := a.endSessionsOf(string(op.Member)); err != nil {
			return 0, err
		}
	}
	for uint64(len(a.sessions)) >= a.settings.sessions {
		if err := a.endSession(a.sessions.oldest()); err != nil {
			return 0, err
		}
	}
	s := &session{member: bytes.Clone(op.Member), usedAt: a.st.TimeMillis, usedIndex: a.st.Index + 1,
		results: make(map[uint64][]byte)}
	a.sessions[op.Session] = s
	return command.OK, a.batch.Set(sessionKey(op.Session), s.append(nil), nil)
}

// endSessionsOf ends the session of a member: at most one, so the order of the
// map does not matter.
func (a *applier) endSessionsOf(member string) error {
	for id, s := range a.sessions {
		if string(s.member) == member {
			if err := a.endSession(id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *applier) endSession(id command.SessionID) error {
	for seq := range a.sessions[id].results {
		if err := a.batch.Delete(sessionResultKey(id, seq), nil); err != nil {
			return err
		}
	}
	delete(a.sessions, id)
	return a.batch.Delete(sessionKey(id), nil)
}

// oldest returns the session unused for the longest replicated time; ties go
// by entry, then by id: the same choice on every member.
func (t sessions) oldest() command.SessionID {
	var best command.SessionID
	var bs *session
	for id, s := range t {
		if bs == nil || s.usedAt < bs.usedAt || s.usedAt == bs.usedAt &&
			(s.usedIndex < bs.usedIndex || s.usedIndex == bs.usedIndex && bytes.Compare(id[:], best[:]) < 0) {
			best, bs = id, s
		}
	}
	return best
}
