package raftlog

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// TestOpenDamagedClosesEngine: an Open that fails leaves no engine open, whenever
// Pebble finds the damage.
func TestOpenDamagedClosesEngine(t *testing.T) {
	failed := 0
	for range 40 {
		fs := vfs.NewMem()
		l, err := Open("dir", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		for i := uint64(1); i <= 3; i++ {
			if err := l.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 4000)}); err != nil {
				t.Fatal(err)
			}
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List("dir")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				f, err := fs.OpenReadWrite(fs.PathJoin("dir", name), vfs.WriteCategoryUnspecified)
				if err != nil {
					t.Fatal(err)
				}
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte{0xff}, info.Size()-3); err != nil { // the footer
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if l, err = Open("dir", Options{FS: fs}); err == nil {
			l.Close()
			continue
		}
		failed++
		lock, err := fs.Lock("dir/LOCK")
		if err != nil {
			t.Fatalf("the engine still has its directory: %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Error("no Open failed: the test shows nothing")
	}
}
