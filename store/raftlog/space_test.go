package raftlog

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// TestSpace: a log that is truncated from the front does not grow on disk, and
// its entries are not written again and again.
func TestSpace(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 MB: a minute and a half under the race detector")
	}
	l, err := Open("dir", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const entry, kept = 512 << 10, 40
	data := make([]byte, entry)
	rand.NewChaCha8([32]byte{}).Read(data)
	if err := l.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	first := uint64(1)
	for i := uint64(1); i <= 600; i++ {
		if err := l.StoreLog(&raft.Log{Index: i, Term: 1, Data: data}); err != nil {
			t.Fatal(err)
		}
		if i%150 == 0 {
			if err := l.Flush(); err != nil { // no disk, so writes outrun flushes
				t.Fatal(err)
			}
			if err := l.DeleteRange(first, i-kept); err != nil {
				t.Fatal(err)
			}
			first = i - kept + 1
		}
	}
	const want = 200 << 20 // of 300 that were written, 20 are in the log
	defer func() {
		rewritten := uint64(0)
		for _, level := range l.db.Metrics().Levels {
			rewritten += level.TableBytesCompacted
		}
		if rewritten > 30<<20 {
			t.Errorf("compactions wrote %d bytes", rewritten)
		}
	}()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		used := l.db.Metrics().DiskSpaceUsage()
		if used < want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%d bytes on disk for %d in the log", used, l.BytesFrom(0))
		case <-tick.C:
		}
	}
}
