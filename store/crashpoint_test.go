package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

const crashEntries = 60

// crashHistory is the log of the scenario, and what a store that never crashed
// made of it: the state after each entry.
type crashHistory struct {
	entries []Entry // entries[i] has index i+1
	states  []State // states[i] is that after index i
	whole   *Store
	sum     [32]byte // of all items at the end
}

func newCrashHistory(t *testing.T) *crashHistory {
	h := &crashHistory{whole: openMem(t, disk.NewMem())}
	rng := rand.New(rand.NewPCG(11, 0))
	h.states = append(h.states, h.whole.State())
	for i := uint64(1); i <= crashEntries; i++ {
		e := openSessionEntry(i)
		if i > 1 {
			key := fmt.Appendf(nil, "k%02d", rng.IntN(20))
			ops := []*command.Op{{Kind: command.Set, Key: key, Value: fmt.Appendf(nil, "%0400d", i)}}
			if i%4 == 0 {
				ops = append(ops, &command.Op{Kind: command.Delete, Key: fmt.Appendf(nil, "k%02d", rng.IntN(20))})
			}
			e = encodeEntry(i, encodeBatch(testSession, i, i-1, ops...))
		}
		h.entries = append(h.entries, e)
		if _, err := h.whole.Apply([]Entry{e}); err != nil {
			t.Fatal(err)
		}
		h.states = append(h.states, h.whole.State())
	}
	var err error
	if h.sum, _, err = h.whole.HashAt(h.whole.State().Revision); err != nil {
		t.Fatal(err)
	}
	return h
}

// pair is two stores on one disk in use: a applies, flushes, and feeds b by a
// snapshot.
type pair struct {
	h  *crashHistory
	fs *faultfs.FS
	// durable is what each was told to be on stable storage before the crash.
	durable map[string]uint64
	fatal   map[string]*atomic.Int32
	open    []*Store
}

func newPair(h *crashHistory, fs disk.FS) *pair {
	return &pair{h: h, fs: faultfs.New(fs), durable: map[string]uint64{},
		fatal: map[string]*atomic.Int32{"a": {}, "b": {}}}
}

func (p *pair) store(name string, fs disk.FS) (*Store, error) {
	s, err := Open("m/"+name, Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 128 << 10,
		OnFatal: func(error) { p.fatal[name].Add(1) }})
	if err == nil {
		p.open = append(p.open, s)
	}
	return s, err
}

// told notes that what s has applied up to index is durable.
func (p *pair) told(name string, index uint64) {
	if !p.fs.Crashed() {
		p.durable[name] = index
	}
}

var errCrashed = errors.New("crashed")

// run lives until the end, the crash or the first error, and closes all.
func (p *pair) run() error {
	var a, b *Store
	var c *Checkpoint
	var in *Incoming
	apply := func(s *Store, to uint64) (err error) {
		for from := s.State().Index; from < to && err == nil; from = s.State().Index {
			_, err = s.Apply(p.h.entries[from:min(to, from+7)])
		}
		return err
	}
	flush := func(name string, s *Store) error {
		index, err := s.Flush()
		if err == nil {
			p.told(name, index)
		}
		return err
	}
	end := func(name string, s *Store) error {
		err := s.Close()
		if err == nil {
			p.told(name, s.State().Index)
		}
		return err
	}
	steps := []func() error{
		func() error { return disk.MkdirAll(p.fs, "m") },
		func() (err error) { a, err = p.store("a", p.fs); return err },
		func() error { return errors.Join(apply(a, 30), flush("a", a)) },
		func() (err error) { b, err = p.store("b", p.fs); return err },
		func() error { return errors.Join(apply(b, 10), flush("b", b), apply(a, 40), apply(b, 15)) },
		func() (err error) { c, err = a.Checkpoint(); return err },
		func() (err error) { p.told("a", c.State.Index); return apply(a, 45) },
		func() (err error) { in, err = b.Receive(c.Reader([16]byte{})); return err },
		func() (err error) { err = b.Install(in); return err },
		func() error { p.told("b", c.State.Index); return c.Close() },
		func() error { return errors.Join(apply(b, 50), flush("b", b)) },
		func() error { return errors.Join(apply(a, crashEntries), end("a", a)) },
		func() (err error) { a, err = p.store("a", p.fs); return err },
		func() error { return errors.Join(end("a", a), end("b", b)) },
	}
	var err error
	for _, step := range steps {
		if err = step(); err == nil && p.fs.Crashed() {
			err = errCrashed
		}
		if err != nil {
			break
		}
	}
	for _, s := range p.open {
		s.Close() // also of a zombie
	}
	p.open = nil
	return err
}

// survives reopens both stores on what the crash left, checks that each is a
// whole state of the history, not below what was told, and replays the rest.
func (p *pair) survives(left disk.FS) error {
	defer func() { p.open = nil }()
	if err := disk.MkdirAll(left, "m"); err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		s, err := p.store(name, left)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = p.whole(s, p.durable[name])
		if err = errors.Join(err, s.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (p *pair) whole(s *Store, durable uint64) error {
	st := s.State()
	if st.Index < durable {
		return fmt.Errorf("applied index %d, %d was durable", st.Index, durable)
	}
	if st != p.h.states[st.Index] {
		return fmt.Errorf("state %+v, should be %+v", st, p.h.states[st.Index])
	}
	got, _, err := s.HashAt(st.Revision)
	if err != nil {
		return err
	}
	want, _, err := p.h.whole.HashAt(st.Revision)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the data at index %d is not that of the state", st.Index)
	}
	if _, err := s.Apply(p.h.entries[st.Index:]); err != nil {
		return err
	}
	if got, _, err = s.HashAt(s.State().Revision); err != nil || got != p.h.sum || s.State() != p.h.states[crashEntries] {
		return fmt.Errorf("after the replay the data differs, %v", err)
	}
	return nil
}

// pairs counts the scenario's operations, then crashes after every stride-th,
// with several outcomes for what was not synced.
func pairs(t *testing.T, fault faultfs.Fault, most int) (wrong int) {
	t.Helper()
	h := newCrashHistory(t)
	n := countPair(t, h)
	by, crashes := stride(n, most), 0
	first := rand.IntN(by)
	for k := first; k <= n; k += by {
		mem := disk.NewMem()
		p := newPair(h, mem)
		p.fs.SetFault(fault)
		var left []disk.FS
		crash := func() {
			for seed := range uint64(3) {
				left = append(left, disk.Crash(mem, seed*1000+uint64(k)))
			}
		}
		p.fs.CrashAfter(k, crash)
		if err := p.run(); err != nil && !p.fs.Crashed() {
			t.Fatalf("crash after %d: the life before it: %v", k, err)
		}
		if !p.fs.Crashed() { // fewer operations than the first time
			crash()
		}
		for seed, fs := range left {
			crashes++
			if err := p.survives(fs); err != nil {
				wrong++
				if fault == nil {
					t.Errorf("crash %d after operation %d: %v", seed, k, err)
				}
			}
		}
	}
	t.Logf("N = %d operations; crashed after every %d., from the %d. on, %d crashes, %d with losses", n, by, first, crashes, wrong)
	return wrong
}

func countPair(t *testing.T, h *crashHistory) int {
	t.Helper()
	p := newPair(h, disk.NewMem())
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
	if p.fs.Ops() == 0 {
		t.Fatal("no operation")
	}
	return p.fs.Ops()
}

func crashPoints() int {
	if testing.Short() {
		return 12
	}
	return 400
}

// stride is 1 with REPLKV_CRASH=all; else such that of n operations most are met at most.
func stride(n, most int) int {
	if os.Getenv("REPLKV_CRASH") == "all" {
		return 1
	}
	return max(1, (n+most-1)/most)
}

// TestCrashPoints: after each operation on the disk, a crash leaves of each
// store a whole state that is not older than what was durable.
func TestCrashPoints(t *testing.T) { pairs(t, nil, crashPoints()) }

// TestCrashPointsLie: the test above would notice a Sync that is not there.
func TestCrashPointsLie(t *testing.T) {
	for name, lie := range map[string]func(faultfs.Op) bool{
		"tables":    faultfs.Of(faultfs.Sync, ".sst"),
		"manifest":  faultfs.Of(faultfs.Sync, "MANIFEST"),
		"CURRENT":   faultfs.Of(faultfs.Sync, "CURRENT"),
		"directory": faultfs.Of(faultfs.SyncDir, "m/b"),
	} {
		t.Run(name, func(t *testing.T) {
			if pairs(t, faultfs.Fail(faultfs.ErrSkip, lie), 30) == 0 {
				t.Error("a planted lie is not noticed")
			}
		})
	}
}

// TestDiskErrorPoints: the disk fails, once or for good, at some operations, from a random
// one on, with REPLKV_CRASH=all at each: somebody is told, once, nothing hangs, and on a
// sound disk all is there.
func TestDiskErrorPoints(t *testing.T) {
	h := newCrashHistory(t)
	n := countPair(t, h)
	by := stride(n, crashPoints()/4)
	first := 1 + rand.IntN(by)
	failed := 0
	for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for k := first; k <= n; k += by {
			for name, when := range map[string]func(faultfs.Op) bool{"once": faultfs.Window(k, 1), "for good": faultfs.From(k)} {
				mem := disk.NewMem()
				p := newPair(h, mem)
				p.fs.SetFault(faultfs.Fail(cause, when))
				if err := p.run(); err != nil {
					failed++
					if !errors.Is(err, cause) && !errors.Is(err, ErrEngineLeft) {
						t.Errorf("%v %s at %d: %v", cause, name, k, err)
					}
				}
				for store, fatal := range p.fatal {
					if fatal.Load() > 1 {
						t.Errorf("%v %s at %d: OnFatal of %s called %d times", cause, name, k, store, fatal.Load())
					}
				}
				if err := p.survives(disk.Crash(mem, uint64(k))); err != nil {
					t.Errorf("%v %s at %d, then a crash: %v", cause, name, k, err)
				}
			}
		}
	}
	t.Logf("N = %d operations, every %d. failed, from the %d. on; %d lives ended by it", n, by, first, failed)
	if failed == 0 {
		t.Error("no error was ever met")
	}
}
