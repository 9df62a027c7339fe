package raftlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

func entryRow(index uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'L'}, index) }

// damaged is the file system of a log with entries 1-100, changed by damage.
func damaged(t *testing.T, damage func(db *pebble.DB) error) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	l := open(t, "dir", raftlog.Options{FS: fs})
	if err := errors.Join(l.StoreLogs(logtest.Entries(1, 100, 1)), l.SetUint64([]byte("CurrentTerm"), 9), l.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("dir", &pebble.Options{FS: fs, Logger: quiet{}, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(damage(db), db.Close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

// flip changes one bit of a row.
func flip(db *pebble.DB, key []byte) error {
	value, closer, err := db.Get(key)
	if err != nil {
		return err
	}
	value = bytes.Clone(value)
	value[len(value)/2] ^= 4
	return errors.Join(closer.Close(), db.Set(key, value, pebble.Sync))
}

// TestDamage: damaged rows are never served; those that Open looks at keep it
// from opening.
func TestDamage(t *testing.T) {
	opened := map[string]func(db *pebble.DB) error{
		"flipped": func(db *pebble.DB) error { return flip(db, entryRow(50)) },
		"swapped": func(db *pebble.DB) error { // whole, but another entry's
			value, closer, err := db.Get(entryRow(51))
			if err != nil {
				return err
			}
			defer closer.Close()
			return db.Set(entryRow(50), value, pebble.Sync)
		},
		"missing": func(db *pebble.DB) error { return db.Delete(entryRow(50), pebble.Sync) },
	}
	for name, damage := range opened {
		t.Run(name, func(t *testing.T) {
			var fatal []error
			l := open(t, "dir", raftlog.Options{FS: damaged(t, damage), OnFatal: func(err error) { fatal = append(fatal, err) }})
			if err := l.Verify(); !errors.Is(err, kv.ErrCorrupt) {
				t.Errorf("Verify = %v", err)
			}
			var got raft.Log
			for index := uint64(1); index < 50; index++ {
				if err := l.GetLog(index, &got); err != nil {
					t.Fatal(err)
				}
			}
			if len(fatal) != 0 {
				t.Errorf("fatal before the damaged entry was asked for: %v", fatal)
			}
			for range 2 {
				if err := l.GetLog(50, &got); !errors.Is(err, kv.ErrCorrupt) {
					t.Errorf("GetLog = %v", err)
				}
			}
			if err := l.StoreLog(logtest.Entry(101, 1)); !errors.Is(err, kv.ErrCorrupt) || len(fatal) != 1 {
				t.Errorf("StoreLog = %v, OnFatal %v", err, fatal)
			}
			if err := l.Close(); !errors.Is(err, kv.ErrCorrupt) {
				t.Errorf("Close = %v", err)
			}
		})
	}

	refused := map[string]struct {
		damage func(db *pebble.DB) error
		want   error
	}{
		"first entry": {func(db *pebble.DB) error { return flip(db, entryRow(1)) }, kv.ErrCorrupt},
		"last entry":  {func(db *pebble.DB) error { return flip(db, entryRow(100)) }, kv.ErrCorrupt},
		"format row":  {func(db *pebble.DB) error { return flip(db, []byte("F")) }, kv.ErrCorrupt},
		"no format":   {func(db *pebble.DB) error { return db.Delete([]byte("F"), pebble.Sync) }, kv.ErrCorrupt},
	}
	for name, c := range refused {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&out, nil))
			if _, err := raftlog.Open("dir", raftlog.Options{FS: damaged(t, c.damage), Logger: logger}); !errors.Is(err, c.want) {
				t.Errorf("Open = %v", err)
			}
			if strings.Contains(out.String(), "must stop") {
				t.Errorf("a refused Open is no failure of a member: %s", &out)
			}
		})
	}
}

// TestStableDamage: a damaged term or vote is an error, not "not found".
func TestStableDamage(t *testing.T) {
	l := open(t, "dir", raftlog.Options{FS: damaged(t, func(db *pebble.DB) error { return flip(db, []byte("SCurrentTerm")) })})
	if _, err := l.GetUint64([]byte("CurrentTerm")); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("GetUint64 = %v", err)
	}
}

// TestOpenTwice: a second Open of the directory is refused.
func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, raftlog.Options{})
	if l, err := raftlog.Open(dir, raftlog.Options{}); err == nil {
		l.Close()
		t.Error("opened twice")
	}
}
