package raftlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

func goldenFloor() FloorState {
	return FloorState{Term: 9, VoteTerm: 8, Candidate: "10.0.0.1:7000", Index: 258, IndexTerm: 7, Applied: 250}
}

func TestFloorGolden(t *testing.T) {
	const path = "testdata/floor.golden"
	slot := encodeFloorSlot(goldenFloor(), 3)
	got := hex.EncodeToString(slot) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the slot is %s, the file says %s", got, want)
	}
	if s, seq, err := decodeFloorSlot(slot, 0); err != nil || s != goldenFloor() || seq != 3 {
		t.Errorf("decoded %+v, %d, %v", s, seq, err)
	}
}

func openFloor(t *testing.T, fs disk.FS) *Floor {
	t.Helper()
	f, _, err := OpenFloor(fs, "floor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestFloorTurns: each state is read back, and the one before it while the
// newest slot is damaged.
func TestFloorTurns(t *testing.T) {
	fs := vfs.NewMem()
	if _, found, err := OpenFloor(fs, "floor"); found || err != nil {
		t.Fatal(found, err)
	}
	var last FloorState
	for i := range uint64(6) {
		f := openFloor(t, fs)
		for j := range uint64(3) {
			s := FloorState{Term: i, VoteTerm: j, Candidate: strings.Repeat("c", int(100*i)), Index: 3*i + j, IndexTerm: i, Applied: j}
			if err := f.Write(s); err != nil {
				t.Fatal(err)
			}
			s.Candidate = cutCandidate(s.Candidate)
			if f.State() != s {
				t.Errorf("State = %+v after Write(%+v)", f.State(), s)
			}
			before, _, err := OpenFloor(damagedFloor(t, fs, f.mu.slot*floorSlotDistance+20), "floor")
			if i+j == 0 {
				if !errors.Is(err, kv.ErrCorrupt) {
					t.Errorf("the only slot is damaged: %v", err)
				}
			} else if err != nil || before.State() != last {
				t.Errorf("with a torn write %+v, %v; before it %+v", before, err, last)
			}
			last = s
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Write(last); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after Close = %v", err)
		}
		if f, found, err := OpenFloor(fs, "floor"); err != nil || !found || f.State() != last {
			t.Fatalf("reopened %+v, %v, %v; want %+v", f, found, err, last)
		}
	}
}

func floorBytes(t *testing.T, fs disk.FS) []byte {
	t.Helper()
	b, err := disk.ReadFile(fs, "floor", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// damagedFloor is a file system with a copy of the floor whose bytes at these
// places are changed.
func damagedFloor(t *testing.T, fs disk.FS, places ...int64) disk.FS {
	t.Helper()
	b := floorBytes(t, fs)
	for _, at := range places {
		b[at] ^= 4
	}
	out := vfs.NewMem()
	if err := disk.WriteFile(out, "floor", b); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFloorDamage: no changed byte of a slot goes unnoticed; both slots
// damaged, or the file cut, is corruption; a newer version is not guessed at.
func TestFloorDamage(t *testing.T) {
	fs := vfs.NewMem()
	f := openFloor(t, fs)
	old, now := FloorState{Term: 1}, goldenFloor()
	if err := errors.Join(f.Write(FloorState{}), f.Write(old), f.Write(now)); err != nil {
		t.Fatal(err)
	}
	newest, oldest := f.mu.slot*floorSlotDistance, (1-f.mu.slot)*floorSlotDistance
	for at := range int64(floorSlotBytes) {
		got, _, err := OpenFloor(damagedFloor(t, fs, newest+at), "floor")
		if err != nil || got.State() != old {
			t.Fatalf("byte %d changed: %+v, %v", at, got, err)
		}
		if _, _, err := OpenFloor(damagedFloor(t, fs, newest+at, oldest+at), "floor"); !errors.Is(err, kv.ErrCorrupt) {
			t.Fatalf("byte %d of both slots changed: %v", at, err)
		}
	}
	write := func(b []byte) error {
		out := vfs.NewMem()
		if err := disk.WriteFile(out, "floor", b); err != nil {
			t.Fatal(err)
		}
		_, found, err := OpenFloor(out, "floor")
		if !found {
			t.Error("a damaged file is not found")
		}
		return err
	}
	for _, b := range [][]byte{nil, make([]byte, floorFileBytes), bytes.Repeat([]byte{0xff}, 100)} {
		if err := write(b); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("a file of %d bytes: %v", len(b), err)
		}
	}
	newer := floorBytes(t, fs)
	slot := newer[oldest : oldest+floorSlotBytes]
	slot[8] = floorVersion + 1
	binary.BigEndian.PutUint32(slot[floorSlotBytes-4:], crc32.Checksum(slot[:floorSlotBytes-4], castagnoli))
	if err := write(newer); !errors.Is(err, kv.ErrFormatTooNew) {
		t.Errorf("a newer version: %v", err)
	}
}

// FuzzFloor gives a file two hostile slots, each with a good checksum but for a share: a
// slot decodes to what it was encoded from, and the file is read as the format says of
// two; what is written then is what is read.
func FuzzFloor(f *testing.F) {
	one, two := encodeFloorSlot(goldenFloor(), 1), encodeFloorSlot(FloorState{Term: 1}, 2)
	f.Add(one, two, uint8(0))
	f.Add(two, one, uint8(0))
	f.Add(one, one, uint8(0))
	f.Add(one, two[:floorHeadBytes], uint8(2))
	f.Add([]byte{}, two, uint8(1))
	f.Add(encodeFloorSlot(goldenFloor(), math.MaxUint64), one, uint8(0))
	f.Fuzz(func(t *testing.T, first, second []byte, as uint8) {
		file := make([]byte, floorFileBytes)
		var best FloorState
		var bestSeq uint64
		tooNew := false
		for i, b := range [][]byte{first, second} {
			slot := file[i*floorSlotDistance:][:floorSlotBytes]
			copy(slot, b)
			if as>>i&1 == 0 {
				binary.BigEndian.PutUint32(slot[floorSlotBytes-crcBytes:], crc32.Checksum(slot[:floorSlotBytes-crcBytes], castagnoli))
			}
			s, seq, err := decodeFloorSlot(file, int64(i))
			if err == nil && !bytes.Equal(encodeFloorSlot(s, seq)[:floorHeadBytes+len(s.Candidate)], slot[:floorHeadBytes+len(s.Candidate)]) {
				t.Errorf("%+v does not encode to what it was read from", s)
			}
			if err != nil && !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrFormatTooNew) {
				t.Error(err)
			}
			if err == nil && seq > bestSeq {
				best, bestSeq = s, seq
			}
			tooNew = tooNew || errors.Is(err, kv.ErrFormatTooNew)
		}
		fs := vfs.NewMem()
		if err := disk.WriteFile(fs, "floor", file); err != nil {
			t.Fatal(err)
		}
		got, found, err := OpenFloor(fs, "floor")
		switch {
		case !found:
			t.Fatal("it is there")
		case tooNew || bestSeq == 0:
			if tooNew != errors.Is(err, kv.ErrFormatTooNew) || bestSeq == 0 && !tooNew && !errors.Is(err, kv.ErrCorrupt) {
				t.Fatalf("too new %v: %v", tooNew, err)
			}
			return
		case err != nil || got.State() != best:
			t.Fatalf("%+v, %v; want %+v", got, err, best)
		}
		next := FloorState{Term: best.Term + 1, Candidate: "c"}
		err = errors.Join(got.Write(next), got.Close())
		if bestSeq == math.MaxUint64 { // there is no next number
			if !errors.Is(err, kv.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, _, err := OpenFloor(fs, "floor"); err != nil || again.State() != next {
			t.Fatalf("written %+v, read %+v, %v", next, again, err)
		}
	})
}

// TestFloorCheck: what was promised and is not there has a name.
func TestFloorCheck(t *testing.T) {
	s := goldenFloor()
	whole := Held{First: 1, Last: 300, TermAt: 7, Applied: 200, Term: 9, VoteTerm: 8, Candidate: s.Candidate}
	for _, c := range []struct {
		name   string
		change func(h *Held, s *FloorState)
		want   string // part of the problem; "": none
	}{
		{"whole", func(*Held, *FloorState) {}, ""},
		{"no floor", func(h *Held, s *FloorState) { *h, *s = Held{}, FloorState{} }, ""},
		{"ends at the floor", func(h *Held, _ *FloorState) { h.Last = 258 }, ""},
		{"tail lost", func(h *Held, _ *FloorState) { h.Last = 257 }, "entry 258 was there"},
		{"empty behind a snapshot", func(h *Held, _ *FloorState) { h.First, h.Last, h.TermAt, h.Applied = 0, 0, 0, 258 }, ""},
		{"empty, state lost", func(h *Held, s *FloorState) { h.First, h.Last, h.TermAt, s.Index = 0, 0, 0, 0 }, "entry 250 was applied"},
		{"another entry", func(h *Held, _ *FloorState) { h.TermAt = 6 }, "of term 6"},
		{"another entry, applied", func(h *Held, _ *FloorState) { h.TermAt, h.Applied = 6, 258 }, ""},
		{"compacted", func(h *Held, _ *FloorState) { h.First, h.TermAt, h.Applied = 290, 0, 295 }, ""},
		{"term not known", func(h *Held, s *FloorState) { s.IndexTerm = 0 }, ""},
		{"later term", func(h *Held, _ *FloorState) { h.Term = 10 }, ""},
		{"term lost", func(h *Held, _ *FloorState) { h.Term = 8 }, "the term is 8"},
		{"vote lost", func(h *Held, _ *FloorState) { h.VoteTerm = 7 }, "last vote"},
		{"later vote", func(h *Held, _ *FloorState) { h.VoteTerm, h.Candidate = 9, "other" }, ""},
		{"another vote", func(h *Held, _ *FloorState) { h.Candidate = "other" }, `for "other"`},
		{"long candidate", func(h *Held, s *FloorState) {
			h.Candidate = strings.Repeat("a", 1000)
			s.Candidate = cutCandidate(h.Candidate)
		}, ""},
	} {
		h, s := whole, s
		c.change(&h, &s)
		got := s.Check(h)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestFloorReached: raft's order of logs, and a state that covers it.
func TestFloorReached(t *testing.T) {
	s := FloorState{Index: 100, IndexTerm: 5, Applied: 90}
	for _, c := range []struct {
		index, term, applied uint64
		want                 bool
	}{
		{99, 5, 90, false}, {100, 5, 90, true}, {101, 5, 90, true}, {100, 4, 90, false}, {200, 4, 90, false},
		{95, 6, 90, true}, {80, 6, 80, false}, {0, 0, 99, false}, {0, 0, 100, true}, {0, 0, 0, false},
	} {
		if got := s.reached(raft.Log{Index: c.index, Term: c.term}, c.applied); got != c.want {
			t.Errorf("log ends at (%d, %d), %d applied: %v", c.index, c.term, c.applied, got)
		}
	}
	s.IndexTerm = 0
	if s.reached(raft.Log{Index: 99, Term: 9}, 0) || !s.reached(raft.Log{Index: 100, Term: 1}, 0) {
		t.Error("without a term the index decides")
	}
}

// TestFloorCrash: after each operation on the disk a crash leaves a floor
// that was promised: the last one that Write returned for, or the one under way.
func TestFloorCrash(t *testing.T) {
	states := make([]FloorState, 12)
	for i := range states {
		n := uint64(i + 1)
		states[i] = FloorState{Term: n, Index: (n * 5) % 7, Candidate: fmt.Sprint("c", n)}
	}
	run := func(fs *faultfs.FS, acked func(i int)) error {
		f, _, err := OpenFloor(fs, "floor")
		for i := 0; i < len(states) && err == nil; i++ {
			if i%5 == 4 {
				if err = f.Close(); err == nil {
					f, _, err = OpenFloor(fs, "floor")
				}
			}
			if err == nil {
				err = f.Write(states[i])
			}
			if err == nil {
				acked(i)
			}
		}
		return errors.Join(err, f.Close())
	}
	crashes := func(lie faultfs.Fault) (n, wrong int) {
		count := faultfs.New(disk.NewMem())
		if err := run(count, func(int) {}); err != nil {
			t.Fatal(err)
		}
		n = count.Ops()
		for k := range n + 1 {
			for seed := range uint64(4) {
				mem := disk.NewMem()
				fs := faultfs.New(mem)
				fs.SetFault(lie)
				var after *disk.Mem
				fs.CrashAfter(k, func() { after = disk.Crash(mem, seed) })
				last := -1
				if err := run(fs, func(i int) {
					if !fs.Crashed() {
						last = i
					}
				}); err != nil {
					t.Fatal(err)
				}
				f, found, err := OpenFloor(after, "floor")
				ok := err == nil
				if ok {
					got := f.State()
					ok = last >= 0 && got == states[last] || last+1 < len(states) && found && got == states[last+1] || last < 0 && !found
				}
				if !ok {
					wrong++
					if lie == nil {
						t.Errorf("crash %d after operation %d: %+v, %v; %d states were acknowledged", seed, k, f, err, last+1)
					}
				}
			}
		}
		return n, wrong
	}
	n, _ := crashes(nil)
	if n == 0 {
		t.Fatal("no operation")
	}
	for _, kind := range []faultfs.Kind{faultfs.Sync, faultfs.SyncDir} {
		_, wrong := crashes(faultfs.Fail(faultfs.ErrSkip, faultfs.Of(kind, "")))
		if wrong == 0 {
			t.Errorf("a disk that skips syncs of kind %#x is not noticed", kind)
		}
		t.Logf("%d operations, all crashed after, 4 seeds each; a disk that skips kind %#x was caught %d times", n, kind, wrong)
	}
}

// TestFloorErrors: the disk fails at each operation: the write says so, and
// so does every later one; what was acknowledged is there.
func TestFloorErrors(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := 1; ; at++ {
			fs := faultfs.New(disk.NewMem())
			fs.SetFault(faultfs.Fail(cause, faultfs.Window(at, 1)))
			f := openFloor(t, fs)
			var err error
			acked := uint64(0)
			for i := uint64(1); i < 5 && err == nil; i++ {
				if err = f.Write(FloorState{Index: i}); err == nil {
					acked = i
				}
			}
			if err == nil {
				if at < 5 {
					t.Errorf("nothing fails at operation %d", at)
				}
				break
			}
			if again := f.Write(FloorState{}); !errors.Is(err, cause) || again != err {
				t.Errorf("at %d: %v, then %v", at, err, again)
			}
			if f.State() != (FloorState{Index: acked}) {
				t.Errorf("at %d: state %+v, acknowledged %d", at, f.State(), acked)
			}
			f.Close()
			if after := openFloor(t, fs).State().Index; after != acked && after != acked+1 {
				t.Errorf("at %d: reopened with %d, acknowledged %d", at, after, acked)
			}
		}
	}
}
