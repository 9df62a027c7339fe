package logtest

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// model is the simplest log: entries[i] has the index first + i.
type model struct {
	first   uint64
	entries []*raft.Log
	term    uint64
}

func (m *model) last() uint64 { return m.first + uint64(len(m.entries)) - 1 }

// testModel compares the store with the model through random operations.
func testModel(s *suite) {
	seed := uint64(time.Now().UnixNano())
	s.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := &model{first: 1, term: 1}
	for range 400 {
		switch op := rng.IntN(20); {
		case op < 8:
			m.append(s, rng)
		case op < 10:
			m.deletePrefix(s, rng)
		case op < 12:
			m.deleteSuffix(s, rng)
		case op == 12 && rng.IntN(3) == 0:
			m.deleteAll(s, rng)
		case op == 13:
			s.reopen()
		default:
			m.read(s, rng)
		}
		m.bounds(s)
	}
	s.check(s.store.Close())
	s.store = s.open()
	m.bounds(s)
	for _, want := range m.entries {
		var got raft.Log
		s.check(s.store.GetLog(want.Index, &got))
		s.same(&got, want)
	}
}

func (m *model) append(s *suite, rng *rand.Rand) {
	if len(m.entries) == 0 {
		m.first += rng.Uint64N(3) * 100
	}
	m.term += rng.Uint64N(2)
	next := m.first + uint64(len(m.entries))
	entries := Entries(next, next+rng.Uint64N(60), m.term)
	s.check(s.store.StoreLogs(entries))
	m.entries = append(m.entries, entries...)
}

func (m *model) deletePrefix(s *suite, rng *rand.Rand) {
	if len(m.entries) < 2 {
		return
	}
	n := 1 + rng.Uint64N(uint64(len(m.entries)-1))
	s.check(s.store.DeleteRange(m.first-rng.Uint64N(2), m.first+n-1))
	// Made durable here, so that a reopen need not know the difference.
	s.check(s.store.Set([]byte("sync"), nil))
	m.first, m.entries = m.first+n, m.entries[n:]
}

func (m *model) deleteSuffix(s *suite, rng *rand.Rand) {
	if len(m.entries) < 2 {
		return
	}
	n := 1 + rng.Uint64N(uint64(len(m.entries)-1))
	s.check(s.store.DeleteRange(m.first+n, m.last()+rng.Uint64N(3)))
	m.entries = m.entries[:n:n]
}

func (m *model) deleteAll(s *suite, rng *rand.Rand) {
	if len(m.entries) == 0 {
		return
	}
	s.check(s.store.DeleteRange(m.first, m.last()))
	m.first, m.entries = m.last()+1+rng.Uint64N(3), nil
}

func (m *model) read(s *suite, rng *rand.Rand) {
	low := m.first - min(m.first, 3)
	index := low + rng.Uint64N(uint64(len(m.entries))+6)
	if index < m.first || index > m.last() || len(m.entries) == 0 {
		s.missing(index)
		return
	}
	var got raft.Log
	s.check(s.store.GetLog(index, &got))
	s.same(&got, m.entries[index-m.first])
}

func (m *model) bounds(s *suite) {
	s.Helper()
	if len(m.entries) == 0 {
		s.bounds(0, 0)
		return
	}
	s.bounds(m.first, m.last())
}
