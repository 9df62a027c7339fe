package raftlog_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
)

func benchEntries(first uint64, n int) []*raft.Log {
	entries := make([]*raft.Log, n)
	for i := range entries {
		entries[i] = &raft.Log{Index: first + uint64(i), Term: 1, Data: make([]byte, 300)}
	}
	return entries
}

// BenchmarkStoreLogs syncs batches of entries of 300 bytes to a real disk.
func BenchmarkStoreLogs(b *testing.B) {
	for _, n := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := open(b, b.TempDir(), raftlog.Options{})
			entries := benchEntries(1, n)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.StoreLogs(entries); err != nil {
					b.Fatal(err)
				}
				for _, entry := range entries {
					entry.Index += uint64(n)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func fill(b *testing.B, l *raftlog.Log, first, n uint64) {
	b.Helper()
	for last := first + n; first < last; first += 1000 {
		if err := l.StoreLogs(benchEntries(first, int(min(1000, last-first)))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGetLog reads entry by entry: from disk with read-ahead, at random,
// from the cache, and as raft does, through a Guard.
func BenchmarkGetLog(b *testing.B) {
	const n = 200_000
	dir := b.TempDir()
	l := open(b, dir, raftlog.Options{})
	fill(b, l, 1, n)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	l = open(b, dir, raftlog.Options{})
	read := func(store raft.LogStore, index func(i uint64) uint64) func(*testing.B) {
		return func(b *testing.B) {
			var entry raft.Log
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				if err := store.GetLog(index(i), &entry); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	sequential := func(i uint64) uint64 { return 1 + i%n }
	b.Run("sequential", read(l, sequential))
	b.Run("sequential guarded", read(raftlog.NewGuard(l, raftlog.GuardOptions{}), sequential))
	b.Run("random", read(l, func(i uint64) uint64 { return 1 + i*7919*7919%n }))
	fill(b, l, n+1, 1000)
	b.Run("cached", read(l, func(i uint64) uint64 { return n + 1 + i%1000 }))
}

// BenchmarkDeleteRange removes 100k entries at a time from the front.
func BenchmarkDeleteRange(b *testing.B) {
	const n = 100_000
	l := open(b, b.TempDir(), raftlog.Options{})
	next := uint64(1)
	fill(b, l, next, n)
	for b.Loop() {
		b.StopTimer()
		fill(b, l, next+n, n)
		b.StartTimer()
		if err := l.DeleteRange(next, next+n-1); err != nil {
			b.Fatal(err)
		}
		next += n
	}
}
