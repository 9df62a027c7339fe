package store

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// TestCloseEndsCompactions: Close does not wait for compactions, which may take
// TestCloseEndsCompactions: Close does not wait for compactions, which may take
// minutes, but for a write of theirs; and what they would have written is not missed.
func TestCloseEndsCompactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New(disk.NewMem())
		s, err := Open("state", Options{FS: fs, MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		l := &loader{tb: t, s: s, index: 1}
		if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
			t.Fatal(err)
		}
		fill := func() {
			l.fill(2000)
			if _, err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		e := s.eng.Load()
		fs.SetFault(faultfs.Slow(time.Minute, func(o faultfs.Op) bool {
			return o.Kind == faultfs.Write && strings.HasSuffix(o.Path, ".sst") && e.db.Metrics().Compact.NumInProgress > 0
		}))
		for i := 0; e.db.Metrics().Compact.NumInProgress == 0; i++ {
			if i == 30 {
				t.Fatal("no compaction began: the test shows nothing")
			}
			fill()
		}
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("Close took %v", took)
		}
		fs.SetFault(nil)
		if s, err = Open("state", Options{FS: fs}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range 2000 {
			if _, err := s.Get(string(benchKey(i)), 0); err != nil && err != kv.ErrNotFound {
				t.Fatal(err)
			} else if err != nil {
				t.Fatalf("key %d of what was flushed is gone", i)
			}
		}
	})
}
