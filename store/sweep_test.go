package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// superseded counts the rows that a finished sweep leaves none of: elders of a
// survivor, tombstones that survive, and index rows below the compacted revision.
func superseded(t *testing.T, s *Store) (n int) {
	t.Helper()
	e, err := s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer e.release()
	st, err := loadState(e.db)
	if err != nil {
		t.Fatal(err)
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceIndex, bareEnd}, UpperBound: dataEnd()})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	survivor := ""
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); k[0] == spaceIndex && binary.BigEndian.Uint64(k[1:]) <= uint64(st.Compacted) {
			n++
		}
		if it.Key()[0] != spaceData {
			continue
		}
		h, key, err := headAt(it)
		if err != nil {
			t.Fatal(err)
		}
		if h.mod > uint64(st.Compacted) {
			continue
		}
		if h.tomb || survivor == string(key) {
			n++
		}
		survivor = string(key)
	}
	return n
}

// history writes versions of keys, deletes some, and compacts all but the last.
func history(t *testing.T, l *leaseLog, keys, versions, bytes int) kv.Revision {
	t.Helper()
	for v := range versions {
		var ops []*command.Op
		for k := range keys {
			ops = append(ops, &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "k%04d", k), Value: fmt.Appendf(nil, "%0*d", bytes, v)})
		}
		l.do(1, ops...)
	}
	l.want(command.OK, 1, &command.Op{Kind: command.Delete, Key: []byte("k0000")})
	at := l.s.State().Revision
	l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte("k0001"), Value: []byte("last")})
	l.want(command.OK, 1, &command.Op{Kind: command.Compact, Revision: uint64(at)})
	return at
}

// unsweeping stops the janitor, so that a test can do its steps.
func unsweeping(t *testing.T) *leaseLog {
	l := newLeaseLog(t)
	l.s.janitor.stop()
	l.s.janitor.quit = make(chan struct{})
	return l
}

// TestSweepInSteps: steps are bounded also for a hot key, each leaves all readable,
// and the last leaves nothing superseded.
func TestSweepInSteps(t *testing.T) {
	l := unsweeping(t)
	at := history(t, l, 3, 400, 4000)
	want, _, err := l.s.HashAt(at)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for more := true; more; steps++ {
		var cost int
		if cost, more, err = l.s.janitor.step(); err != nil {
			t.Fatal(err)
		}
		if cost > 4*sweepStepBytes {
			t.Errorf("step %d cost %d", steps, cost)
		}
		if got, _, err := l.s.HashAt(at); err != nil || got != want {
			t.Fatalf("after step %d the data differs: %v", steps, err)
		}
	}
	if n := superseded(t, l.s); n > 0 || steps < 10 {
		t.Errorf("after %d steps %d rows are superseded", steps, n)
	}
	if it, err := l.s.Get("k0002", 0); err != nil || it.Version != 400 || it.CreateRevision != 4 {
		t.Errorf("%+v, %v", it, err)
	}
	if _, err := l.s.Get("k0002", at-1); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("below the compacted revision: %v", err)
	}
	cost, more, err := l.s.janitor.step()
	if cost > 0 || more || err != nil {
		t.Errorf("with nothing to do: %d, %v, %v", cost, more, err)
	}
}

// TestSweepCostsWhatChanged: keys that were not written since cost nothing.
func TestSweepCostsWhatChanged(t *testing.T) {
	l := unsweeping(t)
	history(t, l, 2000, 2, 100)
	if err := l.s.janitor.sweepAll(); err != nil {
		t.Fatal(err)
	}
	history(t, l, 2, 2, 100)
	cost, more, err := l.s.janitor.step()
	if err != nil || more || cost == 0 || cost > 4096 {
		t.Errorf("six writes cost %d, more %v, %v", cost, more, err)
	}
	if n := superseded(t, l.s); n > 0 {
		t.Errorf("%d rows are superseded", n)
	}
}

// TestSweepGoesOn: the janitor sweeps by itself, also what was begun before a
// restart.
func TestSweepGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	l := &leaseLog{t: t, s: openMem(t, fs), index: 1}
	if _, err := l.s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	l.s.janitor.stop()
	l.s.janitor.quit = make(chan struct{})
	at := history(t, l, 50, 50, 1000)
	if _, more, err := l.s.janitor.step(); !more || err != nil {
		t.Fatalf("%v, %v: too little for two steps", more, err)
	}
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	l.s = openMem(t, fs)
	end := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	swept := func() kv.Revision {
		e, err := l.s.acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer e.release()
		rev, err := loadSwept(e.db)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	for ; swept() < at; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("swept up to %d of %d", swept(), at)
		}
	}
	if n := superseded(t, l.s); n > 0 {
		t.Errorf("%d rows are superseded", n)
	}
}

func TestRevisionAt(t *testing.T) {
	l := unsweeping(t)
	var revs []kv.Revision
	for range 40 {
		l.do(1, setK, setK)
		revs = append(revs, l.s.State().Revision)
	}
	at := func(index uint64) uint64 { return index * 10 } // encodeEntry's time
	for i, rev := range revs {
		index := uint64(i) + 2
		for _, x := range []struct {
			ms   uint64
			want kv.Revision
		}{{at(index), rev}, {at(index) + 9, rev}} {
			if got, err := l.s.RevisionAt(x.ms); err != nil || got != x.want {
				t.Errorf("at %d ms: %d, %v; want %d", x.ms, got, err, x.want)
			}
		}
	}
	if got, err := l.s.RevisionAt(at(2) - 1); got != 0 || err != nil {
		t.Errorf("before all: %d, %v", got, err)
	}
	l.want(command.OK, 1, &command.Op{Kind: command.Compact, Revision: uint64(revs[20])})
	for _, sweep := range []bool{false, true} {
		if sweep {
			if err := l.s.janitor.sweepAll(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := l.s.RevisionAt(at(22)); got != 0 || err != nil {
			t.Errorf("what is compacted: %d, %v", got, err)
		}
		if got, err := l.s.RevisionAt(at(23)); got != revs[21] || err != nil {
			t.Errorf("the first that is not: %d, %v; want %d", got, err, revs[21])
		}
	}
}

// TestSweepLooksOnce: a key is looked at once for a compaction, not once for each of
// its versions, nor again for each step that its entry takes.
func TestSweepLooksOnce(t *testing.T) {
	l := unsweeping(t)
	s := l.s
	const keys, versions = 200, 20
	history(t, l, keys, versions, 1000)
	if err := s.janitor.sweepAll(); err != nil {
		t.Fatal(err)
	}
	if n := superseded(t, s); n > 0 {
		t.Errorf("%d rows are superseded after the sweep", n)
	}
	steps := keys * versions * 1000 / sweepStepBytes
	if n := s.janitor.swept.looks; n < keys || n > keys+2*steps {
		t.Errorf("%d looks at %d keys in some %d steps", n, keys, steps)
	}
}

// TestSweepLargeEntry: an entry that names more keys than a step, or than the memory of
// keys, has room for is done in the end.
func TestSweepLargeEntry(t *testing.T) {
	if testing.Short() {
		t.Skip("60,000 rows: three minutes under the race detector, to which one goroutine says nothing")
	}
	l := unsweeping(t)
	const keys = 60_000
	put := func(from int) {
		for i := from; i < keys; {
			var ops []*command.Op
			for ; i < keys && len(ops) < 4000; i++ {
				ops = append(ops, &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "a/%0150d", i), Value: []byte("v")})
			}
			l.do(1, ops...)
		}
	}
	compact := func() {
		l.want(command.OK, 1, &command.Op{Kind: command.Compact, Revision: uint64(l.s.State().Revision)})
	}
	put(0)
	compact()
	if err := l.s.janitor.sweepAll(); err != nil { // and with it their own index rows
		t.Fatal(err)
	}
	if r := l.want(command.OK, 1, &command.Op{Kind: command.DeleteRange, Key: []byte("a/"), To: []byte("a0")}); r.Deleted != keys {
		t.Fatalf("deleted %d", r.Deleted)
	}
	compact()
	for steps, more := 1, true; more; steps++ {
		var err error
		if _, more, err = l.s.janitor.step(); err != nil {
			t.Fatal(err)
		}
		if steps == 10 { // the target moves, and the entry is not begun anew
			looks := l.s.janitor.swept.looks
			put(keys - 1)
			compact()
			if _, more, err = l.s.janitor.step(); err != nil || !more || l.s.janitor.swept.looks > looks+8000 {
				t.Errorf("after the target moved: %d looks more, %v", l.s.janitor.swept.looks-looks, err)
			}
		}
		if steps > 500 {
			t.Fatalf("%d rows are superseded after %d steps", superseded(t, l.s), steps)
		}
	}
	if n := superseded(t, l.s); n > 0 {
		t.Errorf("%d rows are superseded", n)
	}
}
