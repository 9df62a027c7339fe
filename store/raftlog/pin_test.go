package raftlog_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
)

const rowBytes = 1000

// guarded is a guarded log with entries from 1 to n, whose rows have rowBytes each.
func guarded(t *testing.T, n uint64, o raftlog.GuardOptions) (*raftlog.Guard, *raftlog.Log) {
	t.Helper()
	l := open(t, "dir", raftlog.Options{FS: vfs.NewMem(), CacheBytes: 5000})
	g := raftlog.NewGuard(l, o)
	grow(t, g, 1, n)
	return g, l
}

func grow(t *testing.T, g *raftlog.Guard, first, last uint64) {
	t.Helper()
	var entries []*raft.Log
	for index := first; index <= last; index++ {
		entries = append(entries, &raft.Log{Index: index, Term: 1, Data: make([]byte, rowBytes-42)})
	}
	if err := g.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
}

// compact deletes up to index, as raft does after a snapshot, and checks where
// the log begins then.
func compact(t *testing.T, g *raftlog.Guard, to, want uint64) {
	t.Helper()
	first, err := g.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.DeleteRange(first, to); err != nil {
		t.Fatal(err)
	}
	if first, _ = g.FirstIndex(); first != want {
		t.Fatalf("the log begins at %d, want %d", first, want)
	}
}

func TestBytesFrom(t *testing.T) {
	g, l := guarded(t, 100, raftlog.GuardOptions{TrailingBytes: -1})
	check := func(index uint64, entries int64) {
		t.Helper()
		if got := l.BytesFrom(index); got != entries*rowBytes {
			t.Errorf("BytesFrom(%d) = %d, want %d", index, got, entries*rowBytes)
		}
	}
	check(0, 100)
	check(1, 100)
	check(51, 50)
	check(100, 1)
	check(101, 0)
	compact(t, g, 40, 41)
	check(1, 60)
	if err := g.DeleteRange(91, 100); err != nil {
		t.Fatal(err)
	}
	check(1, 50)
	grow(t, g, 91, 92)
	check(1, 52)
	check(92, 1)
	if err := g.DeleteRange(1, 92); err != nil {
		t.Fatal(err)
	}
	check(1, 0)
	grow(t, g, 500, 509)
	check(1, 10)
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	check(1, 0)
}

func TestByteTail(t *testing.T) {
	g, _ := guarded(t, 100, raftlog.GuardOptions{TrailingBytes: 10*rowBytes - 1})
	compact(t, g, 50, 51) // raft asks for less than the tail allows
	compact(t, g, 99, 91) // the newest 10 stay
	compact(t, g, 99, 91)
	grow(t, g, 101, 105)
	compact(t, g, 99, 96)
	if err := g.DeleteRange(96, 105); err != nil { // reaches the end: exactly
		t.Fatal(err)
	}
	if last, _ := g.LastIndex(); last != 0 {
		t.Fatal("a range that reaches the end was shortened")
	}
}

func TestPin(t *testing.T) {
	g, _ := guarded(t, 100, raftlog.GuardOptions{TrailingBytes: -1})
	pin, ok := g.Pin(30)
	later, _ := g.Pin(101)
	if !ok || !later.Held() {
		t.Fatal("not held")
	}
	compact(t, g, 90, 30)
	if _, ok := g.Pin(29); ok {
		t.Error("pinned what is gone")
	}
	pin.Advance(60)
	pin.Advance(50)
	compact(t, g, 90, 60)
	compact(t, g, 90, 60)
	pin.Release()
	pin.Release()
	if pin.Held() {
		t.Error("held after Release")
	}
	compact(t, g, 90, 91)
	if err := g.DeleteRange(95, 100); err != nil {
		t.Fatal(err)
	}
	if last, _ := g.LastIndex(); last != 94 {
		t.Errorf("a conflict was not removed exactly: last is %d", last)
	}
}

func TestPinLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := guarded(t, 100, raftlog.GuardOptions{TrailingBytes: -1, PinBytes: 80 * rowBytes, PinTimeout: time.Minute})
		defer g.Close()
		large, _ := g.Pin(10)
		allowed, _ := g.Pin(12)
		allowed.Allow(89 * rowBytes)
		idle, _ := g.Pin(50)
		alive, _ := g.Pin(60)
		compact(t, g, 90, 12)
		if large.Held() {
			t.Error("a pin over its bytes is held")
		}
		grow(t, g, 101, 101)
		compact(t, g, 90, 50)
		if allowed.Held() {
			t.Error("a pin over what it was allowed is held")
		}
		time.Sleep(40 * time.Second)
		alive.Touch()
		compact(t, g, 90, 50)
		time.Sleep(30 * time.Second)
		compact(t, g, 90, 60)
		if idle.Held() || !alive.Held() {
			t.Errorf("idle is held: %v, alive: %v", idle.Held(), alive.Held())
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	})
}
