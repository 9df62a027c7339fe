package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// fill applies n Sets of the same value to n keys, as one entry each.
func fillStore(t *testing.T, s *Store, from, n int, value string) {
	t.Helper()
	var entries []Entry
	for i := from; i < from+n; i++ {
		entries = append(entries, encodeEntry(uint64(i), encodeBatch(testSession, uint64(i), uint64(i)-1,
			&command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "k%04d", i), Value: []byte(value)})))
	}
	if _, err := s.Apply(entries); err != nil {
		t.Fatal(err)
	}
}

func newFilled(t *testing.T, n int, value string) *Store {
	s := openMem(t, vfs.NewCrashableMem())
	if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	fillStore(t, s, 2, n, value)
	return s
}

// TestInstallUnderReaders: readers go on across a swap, and each of their scans
// sees one state whole.
func TestInstallUnderReaders(t *testing.T) {
	s := newFilled(t, 50, "old")
	src := newFilled(t, 500, "new")
	c, err := src.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				items, _, _, err := s.Scan(kv.All(), Page{})
				if err != nil {
					t.Errorf("scan: %v", err)
					return
				}
				for _, it := range items {
					if string(it.Value) != string(items[0].Value) {
						t.Errorf("a scan saw %q and %q", it.Value, items[0].Value)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	in, err := s.Receive(c.Reader([16]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Install(in); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	if got, err := s.Get("k0400", 0); err != nil || string(got.Value) != "new" {
		t.Fatalf("after the install: %+v, %v", got, err)
	}
	// An older snapshot changes nothing, and the next one works.
	old := newFilled(t, 5, "older")
	oc, err := old.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer oc.Close()
	before := s.State()
	if in, err = s.Receive(oc.Reader([16]byte{})); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(in); err != nil || s.State() != before {
		t.Fatalf("installing an older snapshot: %v, state %+v", err, s.State())
	}
}

// TestDamagedStream: a stream that is cut short, damaged at any place, or goes
// on, is refused and leaves the state and no file behind.
func TestDamagedStream(t *testing.T) {
	src := newFilled(t, 20, "v")
	c, err := src.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	whole, err := io.ReadAll(c.Reader([16]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMem()
	s := openMem(t, fs)
	refuse := func(what string, b []byte) {
		t.Helper()
		in, err := s.Receive(bytes.NewReader(b))
		if err == nil {
			t.Fatalf("%s was accepted", what)
		}
		if in != nil {
			t.Fatalf("%s: an Incoming with an error", what)
		}
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/300 {
		refuse(fmt.Sprintf("a stream cut at %d of %d", at, len(whole)), whole[:at])
		bad := append([]byte{}, whole...)
		bad[at] ^= 0x10
		refuse(fmt.Sprintf("a stream with bit flipped at %d of %d", at, len(whole)), bad)
	}
	names, err := fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n != currentName && n != enginePrefix+"000001" {
			t.Errorf("%s is left", n)
		}
	}
	if _, err := s.Get("k0002", 0); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("the state changed: %v", err)
	}
}

// TestInstallUnreadable: a state of which a row does not decode is refused before it is
// the live one.
func TestInstallUnreadable(t *testing.T) {
	s, src := newFilled(t, 5, "old"), newFilled(t, 20, "new")
	receive := func() *Incoming {
		c, err := src.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in, err := s.Receive(c.Reader([16]byte{}))
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	good := receive()
	if err := src.eng.Load().db.Set(sessionKey(command.SessionID{9}), []byte{sessionVersion + 1}, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	fillStore(t, src, 22, 1, "new") // else the checkpoint is the one before
	before := s.State()
	if err := s.Install(receive()); !errors.Is(err, kv.ErrFormatTooNew) {
		t.Fatalf("installed: %v", err)
	}
	if s.State() != before || s.Err() != nil {
		t.Fatalf("it is at %+v, %v", s.State(), s.Err())
	}
	if err := s.Install(good); err != nil || s.State() != good.State {
		t.Fatalf("the good one: %v, at %+v", err, s.State())
	}
	checkLeft(t, s, s.eng.Load())
}
