package boltlog_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/boltlog"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

// filled is the directory of a closed log with entries 1-100.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir)
	check(t, errors.Join(l.StoreLogs(logtest.Entries(1, 100, 1)), l.SetUint64([]byte("CurrentTerm"), 9), l.Close()))
	return dir
}

func rowKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// change puts value under key, or deletes the key if value is nil.
func change(t *testing.T, dir, bucket string, key []byte, value func(old []byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "raft.db"), 0o600, &bbolt.Options{Timeout: time.Second})
	check(t, err)
	defer db.Close()
	check(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if v := value(append([]byte{}, b.Get(key)...)); v != nil {
			return b.Put(key, v)
		}
		return b.Delete(key)
	}))
}

func remove([]byte) []byte { return nil }

// flip changes one bit in the middle.
func flip(row []byte) []byte {
	row[len(row)/2] ^= 4
	return row
}

// TestEveryBit: no bit of a stored entry can change unnoticed.
func TestEveryBit(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	entry := &raft.Log{Index: 1, Term: 2, Data: []byte("data"), Extensions: []byte("e"), AppendedAt: time.Unix(5, 6)}
	check(t, errors.Join(l.StoreLog(entry), l.StoreLogs(logtest.Entries(2, 3, 2)), l.Close()))
	var size int
	change(t, dir, "logs", rowKey(1), func(old []byte) []byte { size = len(old); return old })
	for bit := 0; bit < 8*size; bit += 3 {
		twist := func(old []byte) []byte { old[bit/8] ^= 1 << (bit % 8); return old }
		change(t, dir, "logs", rowKey(1), twist)
		if l, err := boltlog.Open(dir, boltlog.Options{}); err == nil {
			var got raft.Log
			check(t, l.GetLog(1, &got))
			check(t, l.Close())
			// Names of fields are stored, too, and matched more or less exactly.
			if err := logtest.Same(&got, entry); err != nil {
				t.Fatalf("bit %d: %v", bit, err)
			}
		} else {
			wantError(t, err, kv.ErrCorrupt)
		}
		change(t, dir, "logs", rowKey(1), twist)
	}
}

// TestDamage: damaged rows are never served; those that Open looks at keep it
// from opening.
func TestDamage(t *testing.T) {
	t.Run("at open", func(t *testing.T) {
		for name, damage := range map[string]func(dir string){
			"format":       func(dir string) { change(t, dir, "conf", []byte("replkv format"), flip) },
			"no format":    func(dir string) { change(t, dir, "conf", []byte("replkv format"), remove) },
			"first":        func(dir string) { change(t, dir, "logs", rowKey(1), flip) },
			"last":         func(dir string) { change(t, dir, "logs", rowKey(100), flip) },
			"entry 0":      func(dir string) { change(t, dir, "logs", rowKey(0), func([]byte) []byte { return []byte("x") }) },
			"odd key":      func(dir string) { change(t, dir, "logs", []byte{0}, func([]byte) []byte { return []byte("x") }) },
			"empty file":   func(dir string) { check(t, os.Truncate(filepath.Join(dir, "raft.db"), 0)) },
			"no bolt file": func(dir string) { check(t, os.WriteFile(filepath.Join(dir, "raft.db"), make([]byte, 50_000), 0o600)) },
			"short file":   func(dir string) { check(t, os.Truncate(filepath.Join(dir, "raft.db"), 3*int64(os.Getpagesize()))) },
		} {
			t.Run(name, func(t *testing.T) {
				dir := filled(t)
				damage(dir)
				for range 2 { // the first must have let go of the lock
					_, err := boltlog.Open(dir, boltlog.Options{LockTimeout: 100 * time.Millisecond})
					wantError(t, err, kv.ErrCorrupt)
				}
			})
		}
	})
	t.Run("at read", func(t *testing.T) {
		for name, damage := range map[string]func(dir string){
			"entry":    func(dir string) { change(t, dir, "logs", rowKey(50), flip) },
			"no entry": func(dir string) { change(t, dir, "logs", rowKey(50), remove) },
			"no msgpack": func(dir string) {
				change(t, dir, "logs", rowKey(50), func([]byte) []byte { return []byte("x") })
			},
			"another's": func(dir string) {
				var other []byte
				change(t, dir, "logs", rowKey(49), func(row []byte) []byte { other = row; return row })
				change(t, dir, "logs", rowKey(50), func([]byte) []byte { return other })
			},
		} {
			t.Run(name, func(t *testing.T) {
				dir := filled(t)
				damage(dir)
				l := open(t, dir)
				check(t, l.GetLog(49, new(raft.Log)))
				wantError(t, l.GetLog(50, new(raft.Log)), kv.ErrCorrupt)
				wantError(t, l.StoreLog(logtest.Entry(101, 1)), kv.ErrCorrupt) // final
				wantError(t, l.Close(), kv.ErrCorrupt)
			})
		}
	})
}

func TestDamagedStable(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"bit":   flip,
		"short": func(row []byte) []byte { return row[:3] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			change(t, dir, "conf", []byte("CurrentTerm"), damage)
			_, err := open(t, dir).GetUint64([]byte("CurrentTerm"))
			wantError(t, err, kv.ErrCorrupt)
		})
	}
}

// TestFault: the file shrinks under the memory map. The read is a fault, which
// must not end the process, and Close must not wait for bolt's locks.
func TestFault(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for first := uint64(1); first < 2000; first += 100 {
		check(t, l.StoreLogs(logtest.Entries(first, first+99, 1)))
	}
	check(t, os.Truncate(filepath.Join(dir, "raft.db"), 0))
	wantError(t, l.GetLog(1000, new(raft.Log)), kv.ErrCorrupt)
	wantError(t, l.SetUint64([]byte("CurrentTerm"), 3), kv.ErrCorrupt)
	wantError(t, l.Close(), kv.ErrCorrupt)
}

// TestForeign: the file of another program is not taken over.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	other, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	check(t, err)
	check(t, errors.Join(other.StoreLogs(logtest.Entries(1, 3, 1)), other.Close()))
	_, err = boltlog.Open(dir, boltlog.Options{})
	wantError(t, err, kv.ErrCorrupt)
}

// TestToolsRead: raft-boltdb's own reader finds entries and terms.
func TestToolsRead(t *testing.T) {
	dir := filled(t)
	other, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "raft.db"), BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: time.Second}})
	check(t, err)
	defer other.Close()
	var got raft.Log
	check(t, other.GetLog(50, &got))
	got.Extensions = nil
	check(t, logtest.Same(&got, logtest.Entry(50, 1)))
	if term, err := other.GetUint64([]byte("CurrentTerm")); term != 9 || err != nil {
		t.Fatalf("CurrentTerm = %d, %v", term, err)
	}
}

// TestCloseBounded: Close does not wait for a call that hangs.
func TestCloseBounded(t *testing.T) {
	l, err := boltlog.Open(t.TempDir(), boltlog.Options{CloseTimeout: time.Millisecond})
	check(t, err)
	leave := boltlog.Occupy(l)
	wantError(t, l.Close(), raftlog.ErrStalled)
	wantError(t, l.GetLog(1, new(raft.Log)), raftlog.ErrClosed)
	leave()
}
