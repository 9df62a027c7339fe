package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// TestCorruptTable: a compaction that meets bad data stops the store, which can
// be closed then: an engine that is left open compacts the same files for ever,
// on the host's processors.
func TestCorruptTable(t *testing.T) {
	mem := disk.NewMem()
	fatal := make(chan error, 1)
	open := func() *loader {
		s, err := Open("dir", Options{FS: mem, OnFatal: func(err error) { fatal <- err }})
		if err != nil {
			t.Fatal(err)
		}
		return &loader{tb: t, s: s, index: s.State().Index}
	}
	l := open()
	if _, err := l.s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	l.index = 1
	for range 3 {
		l.fill(2000)
		if _, err := l.s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	flipTables(t, mem)
	seq := l.seq
	l = open()
	l.seq = seq
	patience := time.After(30 * time.Second)
	for n := 0; ; n++ {
		select {
		case err := <-fatal:
			if !errors.Is(err, kv.ErrCorrupt) {
				t.Errorf("OnFatal(%v)", err)
			}
			if err := l.s.Close(); errors.Is(err, ErrEngineLeft) {
				t.Error("the engine is left open")
			}
			return
		case <-patience:
			t.Fatal("nobody noticed")
		default:
		}
		_, err := l.s.Apply([]Entry{l.entry([]*command.Op{{Kind: command.Set, Key: benchKey(n), Value: make([]byte, 500)}})})
		if err == nil {
			_, err = l.s.Flush()
		}
		if err != nil && !errors.Is(err, kv.ErrCorrupt) {
			t.Fatal(err)
		}
	}
}

// flipTables flips a bit in the middle of each table of the state.
func flipTables(t *testing.T, fs disk.FS) {
	t.Helper()
	dirs, err := fs.List("dir")
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, dir := range dirs {
		names, _ := fs.List(fs.PathJoin("dir", dir)) // or it is a file
		for _, name := range names {
			if !strings.HasSuffix(name, ".sst") {
				continue
			}
			f, err := fs.OpenReadWrite(fs.PathJoin("dir", dir, name), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			var b [1]byte
			if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1
			if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			flipped++
		}
	}
	if flipped == 0 {
		t.Fatal("there are no tables")
	}
}
