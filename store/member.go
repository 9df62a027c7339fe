package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Member is what all members know of one: which directory speaks for it, and
// the newest start of that directory that has made itself known. A directory
// that is not this one, or does not remember this start, is refused: it
// replaces the right one, is a copy of it, or was rolled back.
//
// There is a row for each id of the newest configuration, and for those about
// to be added. Nothing is kept of who was removed: its directory shows by which
// configuration it came in, and the id is not in a later one, or came in anew.
type Member struct {
	Incarnation [16]byte      // of its directory; zero: none has made itself known yet
	Start       command.Start // the newest one known; Number 0: none
	Sessions    uint64        // ordinal of the newest session of that start
	Added       uint64        // index of the configuration by which the id came in; 0: not yet
	Promote     bool          // it is to become a voter once it has caught up
}

// Ref is a row of a configuration, as far as the state machine cares.
type Ref struct {
	ID    string
	Voter bool
}

// members is the table of all members, the same on all of them.
type members map[string]Member

const (
	memberVersion = 1
	memberPromote = 1
)

func (m *Member) append(dst []byte) []byte {
	var flags byte
	if m.Promote {
		flags |= memberPromote
	}
	dst = append(dst, memberVersion, flags)
	dst = append(dst, m.Incarnation[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, m.Start.Boot)
	for _, v := range []uint64{m.Start.Number, m.Sessions, m.Added} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func decodeMember(b []byte) (m Member, err error) {
	const fixed = 2 + 16 + 8
	if len(b) > 0 && b[0] != memberVersion {
		return m, fmt.Errorf("%w: member row version %d", kv.ErrFormatTooNew, b[0])
	}
	if len(b) < fixed+3 {
		return m, fmt.Errorf("%w: member row of %d bytes", kv.ErrCorrupt, len(b))
	}
	m.Promote = b[1]&memberPromote != 0
	copy(m.Incarnation[:], b[2:])
	m.Start.Boot = binary.LittleEndian.Uint64(b[18:])
	b = b[fixed:]
	for _, v := range []*uint64{&m.Start.Number, &m.Sessions, &m.Added} {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return m, fmt.Errorf("%w: member row ends early", kv.ErrCorrupt)
		}
		*v, b = u, b[n:]
	}
	if len(b) > 0 {
		return m, fmt.Errorf("%w: member row has %d bytes left over", kv.ErrCorrupt, len(b))
	}
	return m, nil
}

func loadMembers(db *pebble.DB) (members, error) {
	out := make(members)
	lower, upper := spaceBounds(spaceMember)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, asCorrupt(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		m, err := decodeMember(it.Value())
		if k := it.Key(); err == nil && len(k) < 3 {
			err = fmt.Errorf("%w: member key %x", kv.ErrCorrupt, k)
		}
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		out[string(it.Key()[1:len(it.Key())-1])] = m
	}
	return out, errors.Join(asCorrupt(it.Error()), it.Close())
}

// Member returns what is known of a member.
func (s *Store) Member(id string) (Member, bool) {
	m, ok := (*s.members.Load())[id]
	return m, ok
}

// Claim is what a directory says of itself.
type Claim struct {
	Incarnation [16]byte
	Since       uint64          // index of a configuration by which it was in; the first one's is 1
	Starts      []command.Start // that it remembers, rising; the last is the present one
}

// Judge says whether a directory may speak for a member: nil, or an error that
// wraps kv.ErrRemoved or kv.ErrStaleIdentity. Whoever came in by a configuration
// that this state has not applied yet it does not judge: it lags.
func (s *Store) Judge(id string, c Claim) error {
	// The state first: the table of members is published before it, so the table
	// read here is that of this configuration or a later one.
	at := s.State().ConfigIndex
	if at < c.Since || at == 0 {
		return nil
	}
	m, known := s.Member(id)
	return m.judge(id, known, c)
}

func (m *Member) judge(id string, known bool, c Claim) error {
	var none [16]byte
	switch {
	case !known, m.Added > c.Since:
		return fmt.Errorf("%w: %s; to have it back, give it an empty directory and let it join", kv.ErrRemoved, id)
	case m.Incarnation == none:
		return nil
	case c.Incarnation != m.Incarnation:
		return fmt.Errorf("%w: %s is known with another directory; if that one is lost, remove %s from the cluster, empty this directory and let it join",
			kv.ErrStaleIdentity, id, id)
	case len(c.Starts) == 0 || m.Start.Number < c.Starts[0].Number || slices.Contains(c.Starts, m.Start):
		return nil
	}
	return fmt.Errorf("%w: start %d of %s is known, which this directory (at start %d) does not remember: it is a copy, or was restored from a backup; if the right one is lost, remove %s from the cluster, empty this directory and let it join",
		kv.ErrStaleIdentity, m.Start.Number, id, c.Starts[len(c.Starts)-1].Number, id)
}

// announce makes a start of a member known, with a session of it.
func (a *applier) announce(op *command.Op) (command.OpStatus, error) {
	id := string(op.Member)
	m, known := a.members[id]
	present := op.Starts[len(op.Starts)-1]
	if a.st.ConfigIndex > 0 {
		err := m.judge(id, known, Claim{op.Incarnation, op.Since, op.Starts})
		switch {
		case errors.Is(err, kv.ErrRemoved):
			return command.RemovedMember, nil
		case err != nil:
			return command.OtherIdentity, nil
		}
	}
	switch {
	case m.Start.Number > present.Number:
		return command.OtherIdentity, nil
	case m.Start == present && op.Ordinal <= m.Sessions:
		return command.Stale, nil
	}
	m.Incarnation, m.Start, m.Sessions = op.Incarnation, present, op.Ordinal
	return command.OK, a.setMember(id, m)
}

// admit lets a directory become a member, before the configuration that adds
// it is proposed.
func (a *applier) admit(op *command.Op) (command.OpStatus, error) {
	var none [16]byte
	id := string(op.Member)
	m := a.members[id]
	switch {
	case id == "":
		return command.Invalid, nil
	case op.Fresh && m.Added == 0:
		m = Member{}
	case m.Incarnation != none && op.Incarnation != none && m.Incarnation != op.Incarnation:
		return command.OtherIdentity, nil
	}
	if op.Incarnation != none {
		m.Incarnation = op.Incarnation
	}
	m.Promote = m.Promote || op.Promote
	return command.OK, a.setMember(id, m)
}

// configure notes who is in the new configuration of that index. Whoever left is
// forgotten, and its session ends.
func (a *applier) configure(index uint64, refs []Ref) error {
	now := make(map[string]bool, len(refs))
	for _, r := range refs {
		now[r.ID] = true
		m := a.members[r.ID]
		was := m
		if m.Added == 0 {
			m.Added = index
		}
		m.Promote = m.Promote && !r.Voter
		if m != was {
			if err := a.setMember(r.ID, m); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.members)) {
		if now[id] || a.members[id].Added == 0 {
			continue
		}
		delete(a.members, id)
		a.membersChanged = true
		a.scratch = append(a.scratch, id...) // an effect
		if err := a.batch.Delete(memberKey(id), nil); err != nil {
			return err
		}
		if err := a.endSessionsOf(id); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) setMember(id string, m Member) error {
	a.members[id] = m
	a.membersChanged = true
	row := m.append(nil)
	a.scratch = append(append(a.scratch, id...), row...) // an effect
	return a.batch.Set(memberKey(id), row, nil)
}
