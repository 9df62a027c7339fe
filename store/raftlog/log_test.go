package raftlog_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

// TestConformance runs the suite on the log in all modes, alone and guarded.
func TestConformance(t *testing.T) {
	modes := map[string]struct {
		fs      func() vfs.FS
		options raftlog.Options
		guard   bool
		files   bool // deletions find entries in files, not in memory
	}{
		"disk":          {fs: func() vfs.FS { return vfs.Default }},
		"memory":        {fs: func() vfs.FS { return vfs.NewMem() }},
		"without cache": {fs: func() vfs.FS { return vfs.NewMem() }, options: raftlog.Options{CacheBytes: -1}},
		"small cache":   {fs: func() vfs.FS { return vfs.NewMem() }, options: raftlog.Options{CacheBytes: 2000}},
		"files":         {fs: func() vfs.FS { return vfs.NewMem() }, files: true},
		"guarded":       {fs: func() vfs.FS { return vfs.NewMem() }, guard: true},
		"guard's worker": {fs: func() vfs.FS { return vfs.NewMem() }, guard: true,
			options: raftlog.Options{WriteDeadline: -1}},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			logtest.Run(t, func(t *testing.T) func() logtest.Store {
				o, dir := mode.options, t.TempDir()
				o.FS = mode.fs()
				return func() logtest.Store {
					l := open(t, dir, o)
					if mode.guard {
						return raftlog.NewGuard(l, raftlog.GuardOptions{TrailingBytes: -1})
					}
					if mode.files {
						return filed{l}
					}
					return l
				}
			})
		})
	}
}

// filed flushes before each deletion.
type filed struct{ *raftlog.Log }

func (f filed) DeleteRange(low, high uint64) error {
	if err := f.Flush(); err != nil {
		return err
	}
	return f.Log.DeleteRange(low, high)
}

func open(t testing.TB, dir string, o raftlog.Options) *raftlog.Log {
	t.Helper()
	l, err := raftlog.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
