// Package logtest is the conformance suite of raft log stores: what raft's
// LogStore and StableStore must do for this project, whatever they are made of.
package logtest

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// Store is what a suite runs on.
type Store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// Run puts a store through the suite. Each test calls fresh once, for an empty
// place of its own, and the function it returns for each open of that place;
// the store of an earlier call is closed by then. Stores that say IsMonotonic
// must refuse gaps, others must bear them.
func Run(t *testing.T, fresh func(t *testing.T) (open func() Store)) {
	for _, c := range []struct {
		name string
		test func(s *suite)
	}{
		{"empty", testEmpty},
		{"store and get", testStoreAndGet},
		{"fields survive", testFields},
		{"begins anywhere", testBeginsAnywhere},
		{"results are not reused", testNoAliasing},
		{"delete prefix", testDeletePrefix},
		{"delete suffix", testDeleteSuffix},
		{"delete all", testDeleteAll},
		{"delete outside", testDeleteOutside},
		{"gaps", testGaps},
		{"sequential and random reads", testReads},
		{"reads beside writes", testConcurrent},
		{"stable values", testStable},
		{"stable misses", testStableMisses},
		{"reopen", testReopen},
		{"closed", testClosed},
		{"model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, open: fresh(t)}
			s.reopen()
			c.test(s)
			s.check(s.store.Close())
		})
	}
}

// suite is one test's store, and the steps that the tests share.
type suite struct {
	*testing.T
	open  func() Store
	store Store
}

func (s *suite) reopen() {
	s.Helper()
	if s.store != nil {
		s.check(s.store.Close())
	}
	s.store = s.open()
}

func (s *suite) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) monotonic() bool {
	m, ok := s.store.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// append stores entries first to last in one call.
func (s *suite) append(first, last uint64) {
	s.Helper()
	s.check(s.store.StoreLogs(Entries(first, last, 1)))
}

// holds checks the bounds of the log and that each entry is there.
func (s *suite) holds(first, last, term uint64) {
	s.Helper()
	s.bounds(first, last)
	for index := first; index <= last && index != 0; index++ {
		var got raft.Log
		s.check(s.store.GetLog(index, &got))
		s.same(&got, Entry(index, term))
	}
	if first > 0 {
		s.missing(first - 1)
	}
	s.missing(last + 1)
}

func (s *suite) bounds(first, last uint64) {
	s.Helper()
	gotFirst, err := s.store.FirstIndex()
	s.check(err)
	gotLast, err := s.store.LastIndex()
	s.check(err)
	if gotFirst != first || gotLast != last {
		s.Fatalf("log is %d-%d, want %d-%d", gotFirst, gotLast, first, last)
	}
}

func (s *suite) missing(index uint64) {
	s.Helper()
	var l raft.Log
	if err := s.store.GetLog(index, &l); err != raft.ErrLogNotFound { // exactly: raft compares with ==
		s.Fatalf("GetLog(%d) = %v, want exactly raft.ErrLogNotFound", index, err)
	}
}

func (s *suite) same(got, want *raft.Log) {
	s.Helper()
	if err := Same(got, want); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) refused(err error) {
	s.Helper()
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		s.Fatalf("err = %v, want a refusal", err)
	}
}
