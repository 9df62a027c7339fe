package raftlog_test

import (
	"fmt"
	"testing"

	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// BenchmarkFloor is what a floor costs StoreLogs, on a real disk.
func BenchmarkFloor(b *testing.B) {
	for _, n := range []int{1, 64} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("entries=%d/floor=%v", n, with), func(b *testing.B) {
				dir := b.TempDir()
				l := open(b, disk.Default.PathJoin(dir, "log"), raftlog.Options{})
				o := raftlog.GuardOptions{Applied: func() uint64 { return 1 }}
				if with {
					floor, _, err := raftlog.OpenFloor(disk.Default, disk.Default.PathJoin(dir, "floor"))
					must(b, err)
					o.Floor = floor
				}
				g := raftlog.NewGuard(l, o)
				_, err := g.CheckFloor()
				must(b, err)
				entries := benchEntries(1, n)
				b.ReportAllocs()
				for b.Loop() {
					must(b, g.StoreLogs(entries))
					for _, entry := range entries {
						entry.Index += uint64(n)
					}
				}
				b.StopTimer()
				must(b, g.Close())
			})
		}
	}
}
