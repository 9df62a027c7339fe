package logtest

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

func testEmpty(s *suite) {
	s.holds(0, 0, 0)
	s.check(s.store.StoreLogs(nil))
	s.check(s.store.DeleteRange(0, 0)) // raft.RecoverCluster does that
	s.check(s.store.DeleteRange(1, 10))
	s.holds(0, 0, 0)
}

func testStoreAndGet(s *suite) {
	s.check(s.store.StoreLog(Entry(1, 1)))
	s.append(2, 2)
	s.append(3, 300)
	s.holds(1, 300, 1)
}

func testFields(s *suite) {
	entries := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte("configuration")},
		{Index: 2, Term: 3, Type: raft.LogNoop},
		{Index: 3, Term: 1<<64 - 1, Type: raft.LogBarrier, Data: []byte{}, Extensions: []byte{0, 1, 2}},
		{Index: 4, Term: 4, Data: bytes.Repeat([]byte{7}, 1<<20), Extensions: []byte("e"), AppendedAt: time.Now()},
		{Index: 5, Term: 4, Data: []byte{0}, AppendedAt: time.Date(1800, 1, 1, 0, 0, 0, 1, time.UTC)},
	}
	s.check(s.store.StoreLogs(entries))
	for range 2 {
		for _, want := range entries {
			got := raft.Log{Index: 99, Term: 99, Type: 9, Data: []byte("old"), Extensions: []byte("old"), AppendedAt: time.Now()}
			s.check(s.store.GetLog(want.Index, &got))
			s.same(&got, want)
			if got.AppendedAt.IsZero() != want.AppendedAt.IsZero() {
				s.Fatal("a zero AppendedAt does not survive")
			}
		}
		s.reopen()
	}
}

func testBeginsAnywhere(s *suite) {
	s.append(1000, 1010) // the first entry behind an installed snapshot
	s.holds(1000, 1010, 1)
	s.reopen()
	s.holds(1000, 1010, 1)
}

// testNoAliasing: neither what was stored nor what was read is shared with
// memory that changes later.
func testNoAliasing(s *suite) {
	mine := Entries(1, 50, 1)
	s.check(s.store.StoreLogs(mine))
	for _, entry := range mine {
		clear(entry.Data)
		entry.Term = 0
	}
	s.holds(1, 50, 1)
	for range 2 {
		read := make([]raft.Log, 51)
		for index := uint64(1); index <= 50; index++ {
			s.check(s.store.GetLog(index, &read[index]))
		}
		last, err := s.store.LastIndex()
		s.check(err)
		s.append(last+1, last+200)
		for index := last + 1; index <= last+200; index++ {
			var l raft.Log
			s.check(s.store.GetLog(index, &l))
		}
		for index := uint64(1); index <= 50; index++ {
			s.same(&read[index], Entry(index, 1))
		}
		s.reopen()
	}
}

func testDeletePrefix(s *suite) {
	s.append(1, 100)
	s.check(s.store.DeleteRange(1, 40))
	s.holds(41, 100, 1)
	s.check(s.store.DeleteRange(0, 50))
	s.holds(51, 100, 1)
	s.append(101, 120) // makes the deletion durable
	s.holds(51, 120, 1)
	s.reopen()
	s.holds(51, 120, 1)
}

func testDeleteSuffix(s *suite) {
	s.append(1, 100)
	s.check(s.store.DeleteRange(61, 100))
	s.holds(1, 60, 1)
	s.reopen()
	s.holds(1, 60, 1)
	s.check(s.store.DeleteRange(31, 1000))
	s.check(s.store.StoreLogs(Entries(31, 50, 2)))
	s.bounds(1, 50)
	for range 2 {
		for index := uint64(1); index <= 50; index++ {
			term := uint64(1)
			if index > 30 {
				term = 2
			}
			var got raft.Log
			s.check(s.store.GetLog(index, &got))
			s.same(&got, Entry(index, term))
		}
		s.reopen()
	}
}

func testDeleteAll(s *suite) {
	s.append(1, 100)
	s.check(s.store.DeleteRange(1, 100))
	s.holds(0, 0, 0)
	s.reopen()
	s.holds(0, 0, 0)
	s.append(500, 510)
	s.holds(500, 510, 1)
	s.check(s.store.DeleteRange(0, 1<<63))
	s.holds(0, 0, 0)
	s.append(7, 9)
	s.holds(7, 9, 1)
}

func testDeleteOutside(s *suite) {
	s.append(10, 20)
	s.check(s.store.DeleteRange(1, 9))
	s.check(s.store.DeleteRange(21, 30))
	s.check(s.store.DeleteRange(15, 14))
	s.holds(10, 20, 1)
}

func testGaps(s *suite) {
	s.append(1, 10)
	if !s.monotonic() {
		s.check(s.store.StoreLogs(Entries(20, 25, 1)))
		s.bounds(1, 25)
		s.missing(11)
		return
	}
	s.refused(s.store.StoreLogs(Entries(12, 13, 1)))
	s.refused(s.store.StoreLogs(Entries(10, 11, 1)))
	s.refused(s.store.StoreLogs(Entries(1, 1, 1)))
	s.refused(s.store.StoreLogs([]*raft.Log{Entry(11, 1), Entry(13, 1)}))
	s.refused(s.store.StoreLogs([]*raft.Log{Entry(11, 1), nil}))
	s.refused(s.store.DeleteRange(4, 6))
	s.holds(1, 10, 1)
	s.append(11, 12) // a refusal is no failure
	s.holds(1, 12, 1)
	s.check(s.store.DeleteRange(1, 12))
	s.refused(s.store.StoreLog(Entry(0, 1)))
}

// testReads: any order of reading finds the same, from memory and from disk.
func testReads(s *suite) {
	const last = 5000
	for first := uint64(1); first <= last; first += 250 {
		s.append(first, first+249)
	}
	s.reopen()
	s.holds(1, last, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		index := 1 + rng.Uint64N(last)
		for i := range rng.Uint64N(5) { // raft reads the previous entry, then a few
			if index+i <= last {
				var got raft.Log
				s.check(s.store.GetLog(index+i, &got))
				s.same(&got, Entry(index+i, 1))
			}
		}
	}
	for index := uint64(last); index > last-100; index-- {
		var got raft.Log
		s.check(s.store.GetLog(index, &got))
		s.same(&got, Entry(index, 1))
	}
}

// testConcurrent: readers beside appends, truncations and compactions see an
// entry as it was stored, or none.
func testConcurrent(s *suite) {
	const rounds = 60
	s.append(1, 50)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				last, err := s.store.LastIndex()
				if err != nil {
					s.Error(err)
					return
				}
				index := 1 + rng.Uint64N(last+2)
				var got raft.Log
				switch err := s.store.GetLog(index, &got); {
				case err == raft.ErrLogNotFound:
				case err != nil:
					s.Errorf("GetLog(%d): %v", index, err)
					return
				default:
					if err := Same(&got, Entry(index, got.Term)); err != nil {
						s.Error(err)
						return
					}
				}
			}
		})
	}
	last := uint64(50)
	for round := range uint64(rounds) {
		if round%3 == 0 {
			s.check(s.store.DeleteRange(last-5, last))
			last -= 6
		}
		s.check(s.store.StoreLogs(Entries(last+1, last+20, round+2)))
		last += 20
		if round%4 == 0 {
			first, err := s.store.FirstIndex()
			s.check(err)
			s.check(s.store.DeleteRange(first, last-30))
		}
	}
	close(stop)
	readers.Wait()
}
