package logtest

import (
	"bytes"

	"github.com/hashicorp/raft"
)

func testStable(s *suite) {
	s.check(s.store.Set([]byte("LastVoteCand"), []byte("a")))
	s.check(s.store.SetUint64([]byte("CurrentTerm"), 7))
	s.check(s.store.SetUint64([]byte("zero"), 0))
	s.append(1, 3)
	for range 2 {
		value, err := s.store.Get([]byte("LastVoteCand"))
		s.check(err)
		if !bytes.Equal(value, []byte("a")) {
			s.Fatalf("Get = %q", value)
		}
		clear(value) // the caller's
		for key, want := range map[string]uint64{"CurrentTerm": 7, "zero": 0} {
			number, err := s.store.GetUint64([]byte(key))
			s.check(err)
			if number != want {
				s.Fatalf("GetUint64(%s) = %d, want %d", key, number, want)
			}
		}
		s.reopen()
	}
	s.check(s.store.SetUint64([]byte("CurrentTerm"), 1<<64-1))
	s.reopen()
	number, err := s.store.GetUint64([]byte("CurrentTerm"))
	s.check(err)
	if number != 1<<64-1 {
		s.Fatalf("GetUint64 = %d", number)
	}
	s.holds(1, 3, 1)
}

// testStableMisses: raft knows a miss by the text (NewRaft, HasExistingState
// and requestVote compare err.Error()).
func testStableMisses(s *suite) {
	if _, err := s.store.Get([]byte("nothing")); err == nil || err.Error() != "not found" {
		s.Fatalf(`Get = %v, want exactly "not found"`, err)
	}
	if number, err := s.store.GetUint64([]byte("nothing")); number != 0 || (err != nil && err.Error() != "not found") {
		s.Fatalf(`GetUint64 = %d, %v, want 0 and nil or exactly "not found"`, number, err)
	}
	exists, err := raft.HasExistingState(s.store, s.store, raft.NewInmemSnapshotStore())
	s.check(err)
	if exists {
		s.Fatal("an empty store has state")
	}
}

func testReopen(s *suite) {
	for i := range uint64(5) {
		s.append(1+i*10, 10+i*10)
		s.reopen()
		s.holds(1, 10+i*10, 1)
	}
}

// testClosed: raft's goroutines may call a store that was closed.
func testClosed(s *suite) {
	s.append(1, 3)
	s.check(s.store.Close())
	var l raft.Log
	_, getErr := s.store.Get([]byte("k"))
	for name, err := range map[string]error{
		"GetLog":      s.store.GetLog(1, &l),
		"StoreLogs":   s.store.StoreLogs(Entries(4, 5, 1)),
		"DeleteRange": s.store.DeleteRange(1, 2),
		"Set":         s.store.Set([]byte("k"), nil),
		"Get":         getErr,
	} {
		if err == nil || err == raft.ErrLogNotFound || err.Error() == "not found" {
			s.Errorf("%s of a closed store = %v", name, err)
		}
	}
	s.check(s.store.Close()) // again
}
