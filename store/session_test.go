package store

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// testStarts is the first start of a member.
var testStarts = []command.Start{{Number: 1, Boot: 1}}

func openEntry(index uint64, id byte, ordinal uint64) Entry {
	return encodeEntry(index, encodeBatch(command.NoSession, 0, 0,
		&command.Op{Kind: command.OpenSession, Session: command.SessionID{id}, Member: []byte("m"), Ordinal: ordinal, Starts: testStarts}))
}

var setK = &command.Op{Kind: command.Set, Key: []byte("k"), Value: []byte("v")}

// TestLateOpenSession: a late copy of the opening of an ended session revives
// nothing, before and after a restart.
func TestLateOpenSession(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	b := encodeBatch(command.SessionID{1}, 1, 0, setK)
	apply := func(want command.BatchStatus, e Entry) {
		t.Helper()
		res, err := s.Apply([]Entry{e})
		if err != nil || res[0].Batches[0].Status != want {
			t.Fatalf("%+v, %v; want status %d", res, err, want)
		}
	}
	apply(command.Applied, openEntry(1, 1, 1))
	apply(command.Applied, encodeEntry(2, b))
	apply(command.Applied, encodeEntry(3, b)) // a retry
	apply(command.Applied, openEntry(4, 2, 2))
	apply(command.UnknownSession, encodeEntry(5, b))
	apply(command.Applied, openEntry(6, 1, 1)) // applied, with Stale for its operation
	apply(command.UnknownSession, encodeEntry(7, b))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs)
	apply(command.Applied, openEntry(8, 1, 1))
	apply(command.UnknownSession, encodeEntry(9, b))
	apply(command.Applied, encodeEntry(10, encodeBatch(command.SessionID{2}, 1, 0, setK)))
	if item, err := s.Get("k", 0); err != nil || item.Version != 2 {
		t.Fatalf("%+v, %v; want version 2", item, err)
	}
}

// TestOpenSessionInside: a session cannot open sessions; it could end itself,
// and live and stored tables would differ.
func TestOpenSessionInside(t *testing.T) {
	s := openMem(t, vfs.NewCrashableMem())
	inside := encodeBatch(command.SessionID{1}, 1, 0, &command.Op{Kind: command.OpenSession, Session: command.SessionID{2}, Member: []byte("m"), Ordinal: 2, Starts: testStarts})
	res, err := s.Apply([]Entry{openEntry(1, 1, 1), encodeEntry(2, inside)})
	if err != nil || res[1].Batches[0].Ops[0].Status != command.Invalid {
		t.Fatalf("%+v, %v", res, err)
	}
	fs := vfs.NewCrashableMem()
	other := moveByCheckpoint(t, s, &fs)
	for range 2 {
		res, err := other.Apply([]Entry{encodeEntry(3, encodeBatch(command.SessionID{1}, 2, 0, setK))})
		if err != nil || !res[0].Skipped && res[0].Batches[0].Status != command.Applied {
			t.Fatalf("%+v, %v", res, err)
		}
	}
}

// TestInstallSyncFails: when the pointer to the new engine may or may not be on
// disk, the store stops, and the next start finds a whole engine either way.
func TestInstallSyncFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var renamed, armed atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case !armed.Load():
		case op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, currentName+".tmp"):
			renamed.Store(true)
		case renamed.Load() && op.Kind == errorfs.OpOpenDir:
			return errors.New("EIO")
		}
		return nil
	}))
	s, err := Open("state", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	fillStore(t, s, 2, 5, "old")
	if _, err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	c, err := newFilled(t, 50, "new").Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := s.Receive(c.Reader([16]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	if err := s.Install(in); err == nil || s.Err() == nil {
		t.Fatalf("Install: %v, fatal %v", err, s.Err())
	}
	if !renamed.Load() {
		t.Fatal("the fault was not met")
	}
	s.Close()
	for seed := range uint64(4) {
		s := openMem(t, disk.Crash(mem, seed))
		if item, err := s.Get("k0003", 0); err != nil || string(item.Value) != "old" && string(item.Value) != "new" {
			t.Errorf("after a crash: %+v, %v", item, err)
		}
	}
}

// TestCurrentLost: without the pointer, the engines are not swept away.
func TestCurrentLost(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openMem(t, mem)
	if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mem.Remove(mem.PathJoin("state", currentName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("state", Options{FS: mem}); !errors.Is(err, kv.ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
	if names, err := mem.List(mem.PathJoin("state", enginePrefix+"000001")); err != nil || len(names) == 0 {
		t.Fatalf("the engine's files: %v, %v", names, err)
	}
}
