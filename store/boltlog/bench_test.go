package boltlog_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/boltlog"
	"github.com/replkv/replkv/store/raftlog"
)

// stores are what the benchmarks compare.
var stores = []struct {
	name string
	open func(dir string) (raftlog.Store, error)
}{
	{"boltlog", func(dir string) (raftlog.Store, error) { return boltlog.Open(dir, boltlog.Options{}) }},
	{"raftlog", func(dir string) (raftlog.Store, error) { return raftlog.Open(dir, raftlog.Options{}) }},
}

func compare(b *testing.B, run func(b *testing.B, store raftlog.Store)) {
	for _, s := range stores {
		b.Run(s.name, func(b *testing.B) {
			store, err := s.open(b.TempDir())
			check(b, err)
			b.ReportAllocs()
			run(b, store)
			check(b, store.(interface{ Close() error }).Close())
		})
	}
}

func entriesOf300(first uint64, n int) []*raft.Log {
	entries := make([]*raft.Log, n)
	for i := range entries {
		entries[i] = &raft.Log{Index: first + uint64(i), Term: 1, Data: make([]byte, 300)}
	}
	return entries
}

func fill(b *testing.B, store raft.LogStore, first, n uint64) {
	b.Helper()
	for end := first + n; first < end; first += 1000 {
		check(b, store.StoreLogs(entriesOf300(first, int(min(1000, end-first)))))
	}
}

// BenchmarkStoreLogs syncs batches of entries of 300 bytes to a real disk.
func BenchmarkStoreLogs(b *testing.B) {
	for _, n := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			compare(b, func(b *testing.B, store raftlog.Store) {
				entries := entriesOf300(1, n)
				for b.Loop() {
					check(b, store.StoreLogs(entries))
					for _, entry := range entries {
						entry.Index += uint64(n)
					}
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
			})
		})
	}
}

// BenchmarkGetLog reads one entry after the other.
func BenchmarkGetLog(b *testing.B) {
	const n = 100_000
	compare(b, func(b *testing.B, store raftlog.Store) {
		fill(b, store, 1, n)
		var entry raft.Log
		for i := uint64(0); b.Loop(); i++ {
			check(b, store.GetLog(1+i%n, &entry))
		}
	})
}

// BenchmarkDeleteRange removes 100k entries at a time from the front. raftlog,
// with a benchmark of its own, is so fast at it that filling would take minutes.
func BenchmarkDeleteRange(b *testing.B) {
	const n = 100_000
	l := open(b, b.TempDir())
	next := uint64(1)
	fill(b, l, next, n)
	for b.Loop() {
		b.StopTimer()
		fill(b, l, next+n, n)
		b.StartTimer()
		check(b, l.DeleteRange(next, next+n-1))
		next += n
	}
}
