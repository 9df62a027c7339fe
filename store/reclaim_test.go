package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// noise is what does not compress, the same each time.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// fill writes keys of incompressible values and returns the size on disk.
func fill(t *testing.T, l *leaseLog, keys, size int) int64 {
	t.Helper()
	for k := 0; k < keys; {
		var ops []*command.Op
		for n := 0; n < 256<<10 && k < keys; n += size {
			ops = append(ops, &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "k%06d", k*7919%keys), Value: noise(uint64(k), size)})
			k++
		}
		l.do(1, ops...)
	}
	if _, err := l.s.Flush(); err != nil {
		t.Fatal(err)
	}
	return liveSize(t, l.s)
}

func liveSize(t *testing.T, s *Store) int64 {
	t.Helper()
	n, err := s.LiveSize()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// remove deletes the keys that which picks, and all history.
func remove(t *testing.T, l *leaseLog, keys int, which func(k int) bool) {
	t.Helper()
	var ops []*command.Op
	for k := range keys {
		if which(k) {
			ops = append(ops, &command.Op{Kind: command.Delete, Key: fmt.Appendf(nil, "k%06d", k)})
		}
	}
	l.do(1, ops...)
	l.want(command.OK, 1, &command.Op{Kind: command.Compact, Revision: uint64(l.s.State().Revision)})
	if err := l.s.Sweep(); err != nil {
		t.Fatal(err)
	}
}

// reclaim calls Reclaim until the state is small, or it has had its time: Pebble
// estimates the garbage of a file a moment after it was written.
func reclaim(t *testing.T, s *Store, want int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); liveSize(t, s) > want; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are left, more than %d", liveSize(t, s), want)
		}
		if err := s.Reclaim(t.Context(), 64); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReclaim: what was deleted, compacted and swept gives its room back, without a
// write that would make Pebble do it; a store that is emptied, and one that is
// thinned out evenly. What is left reads as before.
func TestReclaim(t *testing.T) {
	const keys, size = 160, 50_000
	for name, c := range map[string]struct {
		which func(k int) bool
		left  int64 // at most, in percent
	}{
		"emptied": {func(int) bool { return true }, 2},
		"thinned": {func(k int) bool { return k%10 != 0 }, 15},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeaseLog(t)
			before := fill(t, l, keys, size)
			if before < keys*size*9/10 {
				t.Fatalf("%d bytes on disk: the values compress, the test shows nothing", before)
			}
			remove(t, l, keys, c.which)
			want, items, err := l.s.HashAt(l.s.State().Revision)
			if err != nil {
				t.Fatal(err)
			}
			reclaim(t, l.s, before*c.left/100)
			got, n, err := l.s.HashAt(l.s.State().Revision)
			if err != nil || got != want || n != items {
				t.Errorf("%d items instead of %d, %v", n, items, err)
			}
		})
	}
}

// TestReclaimLeavesAlone: what is not worth it is not compacted, and ctx and Close
// end it.
func TestReclaimLeavesAlone(t *testing.T) {
	l := newLeaseLog(t)
	fill(t, l, 100, 20_000)
	remove(t, l, 100, func(k int) bool { return k < 4 })
	e, err := l.s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.s.Reclaim(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	// Pebble may still be at work of its own; then nothing more may happen.
	calm := func() bool {
		m := e.db.Metrics().Compact
		if m.NumInProgress > 0 {
			return false
		}
		for range 3 {
			if err := l.s.Reclaim(t.Context(), 8); err != nil {
				t.Fatal(err)
			}
		}
		return e.db.Metrics().Compact.Count == m.Count
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !calm(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("compactions do not end for 4% of garbage")
		}
	}
	e.release()
	remove(t, l, 100, func(int) bool { return true })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.s.Reclaim(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Reclaim with an ended ctx: %v", err)
	}
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.s.Reclaim(t.Context(), 1); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Reclaim after Close: %v", err)
	}
}

// TestPieces: pieces follow each other without a gap, reach over everything, begin
// between keys, and hold about what they should.
func TestPieces(t *testing.T) {
	l := newLeaseLog(t)
	fill(t, l, 250, 50_000)
	e, err := l.s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer e.release()
	if err := e.db.Compact(t.Context(), []byte{0, bareEnd}, []byte{0xff, bareEnd}, false); err != nil {
		t.Fatal(err)
	}
	levels, err := e.db.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	const size = 5 << 20
	all := pieces(levels, size)
	if len(all) < 3 {
		t.Fatalf("%d pieces of 12 MB: the test shows nothing", len(all))
	}
	var sum, want uint64
	for _, level := range levels {
		for _, table := range level {
			want += table.Size
		}
	}
	for i, p := range all {
		sum += p.bytes
		switch {
		case comparer.Compare(p.from, p.to) >= 0:
			t.Errorf("piece %d is empty", i)
		case i > 0 && !bytes.Equal(p.from, all[i-1].to):
			t.Errorf("piece %d begins at %x, the one before ends at %x", i, p.from, all[i-1].to)
		case split(p.from) != len(p.from):
			t.Errorf("piece %d begins within a key: %x", i, p.from)
		case p.bytes > size:
			t.Errorf("piece %d has %d bytes", i, p.bytes)
		}
	}
	if sum != want || all[0].from[0] > spaceMeta || all[len(all)-1].to[0] <= spaceData {
		t.Errorf("%d bytes of %d, from %x to %x", sum, want, all[0].from, all[len(all)-1].to)
	}
	if empty := pieces(make([][]pebble.SSTableInfo, 7), size); len(empty) != 1 || empty[0].garbage != 0 {
		t.Errorf("of nothing: %+v", empty)
	}
}
