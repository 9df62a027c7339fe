package raftlog_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

func openFloor(t testing.TB, fs disk.FS) *raftlog.Floor {
	t.Helper()
	f, _, err := raftlog.OpenFloor(fs, "floor")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// floorOf is what the floor's file says now.
func floorOf(t testing.TB, fs disk.FS) raftlog.FloorState {
	t.Helper()
	return openFloor(t, fs).State()
}

// keeping guards store with the floor of fs.
func keeping(t testing.TB, store raftlog.Store, fs disk.FS, applied *atomic.Uint64) *raftlog.Guard {
	t.Helper()
	g := raftlog.NewGuard(store, raftlog.GuardOptions{Floor: openFloor(t, fs), Applied: applied.Load, TrailingBytes: -1})
	t.Cleanup(func() { g.Close() })
	return g
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestFloorFollows: terms and votes are in the floor when raft gets its
// answer, the log's end within a second, all of it after Close.
func TestFloorFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied atomic.Uint64
		mem := disk.NewMem()
		fs := faultfs.New(mem)
		crashed := func() raftlog.FloorState { return floorOf(t, mem.CrashClone(vfs.CrashCloneCfg{})) }
		g := keeping(t, raft.NewInmemStore(), fs, &applied)
		if problem, err := g.CheckFloor(); problem != "" || err != nil || g.BelowFloor() {
			t.Fatal(problem, err)
		}
		want := raftlog.FloorState{Term: 5}
		must(t, g.SetUint64([]byte("CurrentTerm"), 5))
		if got := crashed(); got != want {
			t.Errorf("after the term: %+v", got)
		}
		must(t, g.SetUint64([]byte("LastVoteTerm"), 5))
		if got := crashed(); got != want {
			t.Errorf("half a vote promises nothing: %+v", got)
		}
		must(t, g.Set([]byte("LastVoteCand"), []byte("a:1")))
		want.VoteTerm, want.Candidate = 5, "a:1"
		if got := crashed(); got != want {
			t.Errorf("after the vote: %+v", got)
		}
		before := fs.Ops()
		must(t, g.SetUint64([]byte("another"), 1), g.Set([]byte("key"), nil))
		for index := uint64(1); index <= 100; index++ {
			must(t, g.StoreLog(logtest.Entry(index, 4)))
		}
		synctest.Wait()
		if fs.Ops() != before {
			t.Errorf("%d operations for 100 entries", fs.Ops()-before)
		}
		applied.Store(60)
		time.Sleep(time.Second)
		synctest.Wait()
		want.Index, want.IndexTerm, want.Applied = 100, 4, 60
		if got := crashed(); got != want || fs.Ops() != before+2 { // a write and a sync
			t.Errorf("after a second: %+v, %d operations", got, fs.Ops()-before)
		}
		time.Sleep(time.Hour)
		if fs.Ops() != before+2 {
			t.Error("an idle log writes")
		}
		must(t, g.StoreLogs(logtest.Entries(101, 110, 5)), g.Close())
		want.Index, want.IndexTerm = 110, 5
		if got := crashed(); got != want {
			t.Errorf("after Close: %+v", got)
		}
	})
}

// watchedStore lets a test look when the store is about to delete.
type watchedStore struct {
	*raftlog.Log
	deleting func()
}

func (s *watchedStore) DeleteRange(low, high uint64) error {
	s.deleting()
	return s.Log.DeleteRange(low, high)
}

// TestFloorLowered: before the log loses its end, the floor is lower, on
// stable storage; a prefix does not concern it.
func TestFloorLowered(t *testing.T) {
	var applied atomic.Uint64
	applied.Store(20)
	mem := disk.NewMem()
	store := &watchedStore{Log: open(t, "log", raftlog.Options{FS: vfs.NewMem()})}
	g := keeping(t, store, mem, &applied)
	must(t, g.StoreLogs(logtest.Entries(1, 50, 1)), g.StoreLogs(logtest.Entries(51, 100, 2)), g.SetUint64([]byte("CurrentTerm"), 2))
	for _, c := range []struct {
		low, high uint64
		want      raftlog.FloorState
	}{
		{1, 10, raftlog.FloorState{Index: 100, IndexTerm: 2}},
		{91, 100, raftlog.FloorState{Index: 90, IndexTerm: 2}},
		{51, 1000, raftlog.FloorState{Index: 50, IndexTerm: 1}},
		{60, 70, raftlog.FloorState{Index: 50, IndexTerm: 1}}, // nothing there
		{0, 50, raftlog.FloorState{Index: 10}},                // all
	} {
		c.want.Term, c.want.Applied = 2, 20
		store.deleting = func() {
			if got := floorOf(t, mem.CrashClone(vfs.CrashCloneCfg{})); got != c.want {
				t.Errorf("before %d-%d goes: %+v, want %+v", c.low, c.high, got, c.want)
			}
		}
		must(t, g.DeleteRange(c.low, c.high))
	}
	must(t, g.StoreLogs(logtest.Entries(21, 22, 3)), g.Close())
	if got := floorOf(t, mem); got != (raftlog.FloorState{Term: 2, Index: 22, IndexTerm: 3, Applied: 20}) {
		t.Errorf("after Close: %+v", got)
	}
}

// TestBelowFloor: a member that lost its log's end keeps the floor until it is
// whole: time, Close and an installed snapshot do not lower it, a conflict that
// a leader removes does.
func TestBelowFloor(t *testing.T) {
	for _, c := range []struct {
		name  string
		feed  func(t *testing.T, g *raftlog.Guard, applied *atomic.Uint64)
		index uint64 // of the floor after Close
		term  uint64
		whole bool
	}{
		{"nothing comes", func(*testing.T, *raftlog.Guard, *atomic.Uint64) {}, 100, 5, false},
		{"less comes", func(t *testing.T, g *raftlog.Guard, _ *atomic.Uint64) {
			must(t, g.StoreLogs(logtest.Entries(91, 99, 5)))
		}, 100, 5, false},
		{"a snapshot below comes", func(t *testing.T, g *raftlog.Guard, applied *atomic.Uint64) {
			applied.Store(95)
			must(t, g.DeleteRange(1, 90))
		}, 100, 5, false},
		{"a conflict goes", func(t *testing.T, g *raftlog.Guard, _ *atomic.Uint64) {
			must(t, g.DeleteRange(81, 90))
		}, 80, 5, false},
		{"all comes", func(t *testing.T, g *raftlog.Guard, _ *atomic.Uint64) {
			must(t, g.StoreLogs(logtest.Entries(91, 100, 5)))
		}, 100, 5, true},
		{"a later leader's come", func(t *testing.T, g *raftlog.Guard, _ *atomic.Uint64) {
			must(t, g.StoreLogs(logtest.Entries(91, 95, 6)))
		}, 95, 6, true},
		{"a snapshot comes", func(t *testing.T, g *raftlog.Guard, applied *atomic.Uint64) {
			applied.Store(200)
			must(t, g.DeleteRange(1, 90))
		}, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var applied atomic.Uint64
				mem := disk.NewMem()
				f := openFloor(t, mem)
				must(t, f.Write(raftlog.FloorState{Term: 5, Index: 100, IndexTerm: 5, Applied: 80}), f.Close())
				store := raft.NewInmemStore()
				must(t, store.StoreLogs(logtest.Entries(1, 90, 5)), store.SetUint64([]byte("CurrentTerm"), 5))
				applied.Store(80)
				g := keeping(t, store, mem, &applied)
				problem, err := g.CheckFloor()
				if err != nil || !strings.Contains(problem, "entry 100") || !g.BelowFloor() || g.ReachedFloor() {
					t.Fatalf("%q, %v, below %v", problem, err, g.BelowFloor())
				}
				c.feed(t, g, &applied)
				must(t, g.SetUint64([]byte("CurrentTerm"), 7)) // is kept all the same
				time.Sleep(time.Minute)
				if got := g.ReachedFloor(); got != c.whole {
					t.Fatalf("ReachedFloor = %v", got)
				}
				if c.whole {
					must(t, g.Whole())
				}
				if g.BelowFloor() == c.whole {
					t.Errorf("below: %v", g.BelowFloor())
				}
				must(t, g.Close())
				got := floorOf(t, mem)
				if got.Index != c.index || got.IndexTerm != c.term || got.Term != 7 || c.whole != (got.Applied == applied.Load()) && applied.Load() != 80 {
					t.Errorf("the floor is %+v", got)
				}
			})
		})
	}
}

// TestRaiseStable: a member that forgot term and vote gets them back.
func TestRaiseStable(t *testing.T) {
	floor := raftlog.FloorState{Term: 7, VoteTerm: 6, Candidate: "a:1"}
	for _, c := range []struct {
		term, voteTerm uint64
		candidate      string
		below          bool
	}{
		{7, 6, "a:1", false}, {0, 0, "", true}, {6, 6, "a:1", true}, {7, 5, "b:1", true}, {7, 6, "b:1", true}, {9, 8, "b:1", false},
	} {
		var applied atomic.Uint64
		mem, store := disk.NewMem(), raft.NewInmemStore()
		f := openFloor(t, mem)
		must(t, f.Write(floor), f.Close())
		if c.term > 0 {
			must(t, store.SetUint64([]byte("CurrentTerm"), c.term), store.SetUint64([]byte("LastVoteTerm"), c.voteTerm),
				store.Set([]byte("LastVoteCand"), []byte(c.candidate)))
		}
		g := keeping(t, store, mem, &applied)
		if problem, err := g.CheckFloor(); err != nil || (problem != "") != c.below {
			t.Errorf("%+v: %q, %v", c, problem, err)
		}
		must(t, g.RaiseStable())
		term, err := g.GetUint64([]byte("CurrentTerm"))
		must(t, err)
		voteTerm, err := g.GetUint64([]byte("LastVoteTerm"))
		must(t, err)
		candidate, err := g.Get([]byte("LastVoteCand"))
		must(t, err)
		want := raftlog.FloorState{Term: max(7, c.term), VoteTerm: max(6, c.voteTerm), Candidate: "a:1"}
		if c.voteTerm > 6 {
			want.Candidate = c.candidate
		}
		if got := (raftlog.FloorState{Term: term, VoteTerm: voteTerm, Candidate: string(candidate)}); got != want {
			t.Errorf("%+v: raised to %+v", c, got)
		}
		if problem, err := g.CheckFloor(); problem != "" || err != nil {
			t.Errorf("%+v: raised, and still %q, %v", c, problem, err)
		}
		must(t, g.Close())
	}
}

// TestFloorFails: an error of the floor, and a floor that hangs, are fatal in
// time, whoever meets them, and nobody is left waiting.
func TestFloorFails(t *testing.T) {
	acts := map[string]func(g *raftlog.Guard){
		"term":  func(g *raftlog.Guard) { g.SetUint64([]byte("CurrentTerm"), 2) },
		"vote":  func(g *raftlog.Guard) { g.Set([]byte("LastVoteCand"), []byte("a")) },
		"cut":   func(g *raftlog.Guard) { g.DeleteRange(5, 10) },
		"grown": func(g *raftlog.Guard) { g.StoreLogs(logtest.Entries(11, 12, 1)); time.Sleep(time.Hour) },
		"whole": func(g *raftlog.Guard) { g.StoreLogs(logtest.Entries(11, 12, 1)); g.Whole() },
	}
	for name, act := range acts {
		for _, hanging := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				fs := faultfs.New(disk.NewMem())
				store := raft.NewInmemStore()
				must(t, store.StoreLogs(logtest.Entries(1, 10, 1)))
				fatal := make(chan error, 10)
				g := raftlog.NewGuard(store, raftlog.GuardOptions{Floor: openFloor(t, fs), OnFatal: func(err error) { fatal <- err }})
				if _, err := g.CheckFloor(); err != nil {
					t.Fatal(err)
				}
				must(t, g.SetUint64([]byte("CurrentTerm"), 1))
				want := error(syscall.EIO)
				hang := faultfs.NewHang(faultfs.Of(faultfs.Syncs, "floor"))
				defer hang.Release()
				fs.SetFault(faultfs.Fail(want, faultfs.Of(faultfs.Write, "floor")))
				if hanging {
					want = raftlog.ErrStalled
					fs.SetFault(hang.Fault)
				}
				g.Arm()
				ended, began := make(chan struct{}), time.Now()
				go func() {
					defer close(ended)
					act(g)
					g.FirstIndex() // where raft's goroutine ends at the latest
					t.Errorf("%s: raft goes on", name)
				}()
				if err := <-fatal; !errors.Is(err, want) {
					t.Errorf("%s: OnFatal(%v)", name, err)
				}
				if took := time.Since(began); hanging && took > raftlog.DefaultWriteDeadline+time.Second {
					t.Errorf("%s: noticed after %v", name, took)
				}
				<-ended
				if err := g.Close(); !errors.Is(err, want) {
					t.Errorf("%s: Close = %v", name, err)
				}
				if len(fatal) > 0 {
					t.Errorf("%s: OnFatal again: %v", name, <-fatal)
				}
			})
		}
	}
}

// TestFloorCloseFails: the last write's error is Close's.
func TestFloorCloseFails(t *testing.T) {
	fs := faultfs.New(disk.NewMem())
	g := raftlog.NewGuard(raft.NewInmemStore(), raftlog.GuardOptions{Floor: openFloor(t, fs)})
	must(t, g.StoreLogs(logtest.Entries(1, 2, 1)))
	fs.SetFault(faultfs.Fail(syscall.ENOSPC, faultfs.Of(faultfs.Any, "floor")))
	if err := g.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close = %v", err)
	}
}

// TestFloorNoticesLostEnd is what the floor is for: the write-ahead log's end
// is damaged, the log opens as if nothing was, and the floor tells.
func TestFloorNoticesLostEnd(t *testing.T) {
	var applied atomic.Uint64
	mem := disk.NewMem()
	l := open(t, "log", raftlog.Options{FS: mem})
	g := keeping(t, l, mem, &applied)
	for index := uint64(1); index <= 100; index++ {
		must(t, g.StoreLog(logtest.Entry(index, 3)))
	}
	must(t, g.SetUint64([]byte("CurrentTerm"), 3), g.Close())
	cutNewestWAL(t, mem, "log")

	l = open(t, "log", raftlog.Options{FS: mem})
	last, err := l.LastIndex()
	must(t, err, l.Verify())
	if last == 0 || last >= 100 {
		t.Fatalf("the damaged log ends at %d", last)
	}
	g = keeping(t, l, mem, &applied)
	if problem, err := g.CheckFloor(); err != nil || !strings.Contains(problem, "entry 100") {
		t.Errorf("CheckFloor = %q, %v", problem, err)
	}
}

// cutNewestWAL flips a bit in the middle of the newest write-ahead log.
func cutNewestWAL(t *testing.T, fs disk.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".log") && name > newest {
			newest = name
		}
	}
	path := fs.PathJoin(dir, newest)
	b, err := disk.ReadFile(fs, path, 1<<30)
	must(t, err)
	// Pebble's checksum of the record fails, and the rest counts as a torn write.
	b[len(b)/2] ^= 1
	must(t, disk.WriteFile(fs, path, b[:len(b)/2+1]))
}

// TestGuardedRaftFloor: after elections, conflicts and restarts of a real
// cluster no member finds itself below its floor.
func TestGuardedRaftFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied [2]atomic.Uint64
		disks := []*disk.Mem{disk.NewMem(), disk.NewMem()}
		stores := []*faultyStore{newFaulty(), newFaulty()}
		for life := range 3 {
			var members []*member
			for i, store := range stores {
				m := newMember(string(rune('a'+i)), store)
				must(t, m.guard.Close()) // newMember's, without floor
				m.guard = keeping(t, store, disks[i], &applied[i])
				if problem, err := m.guard.CheckFloor(); problem != "" || err != nil {
					t.Errorf("life %d, member %d: %q, %v", life, i, problem, err)
				}
				members = append(members, m)
			}
			if life == 0 {
				cluster(t, members...)
			} else {
				members[0].trans.Connect("b", members[1].trans)
				members[1].trans.Connect("a", members[0].trans)
				must(t, members[1].start(), members[0].start())
			}
			leader := members[0].raft
			for leader.State() != raft.Leader {
				time.Sleep(10 * time.Millisecond)
				if members[1].raft.State() == raft.Leader {
					leader = members[1].raft
				}
			}
			for range 20 {
				must(t, leader.Apply([]byte("x"), time.Second).Error())
			}
			time.Sleep(2 * time.Second)
			for i, m := range members {
				applied[i].Store(m.raft.AppliedIndex())
				must(t, m.raft.Shutdown().Error(), m.guard.Close())
				term, _ := m.store.GetUint64([]byte("CurrentTerm"))
				last, _ := m.store.LastIndex()
				if s := floorOf(t, disks[i]); s.Term != term || s.Index != last || s.VoteTerm == 0 {
					t.Errorf("life %d, member %d: floor %+v, term %d, last %d", life, i, s, term, last)
				}
			}
		}
		time.Sleep(time.Minute)
	})
}
