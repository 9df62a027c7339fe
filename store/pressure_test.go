package store

import (
	"testing"
	"testing/synctest"

	"github.com/replkv/replkv/store/disk"
)

// TestPressure: what was flushed and is not merged is noticed, and counts from the
// depth on at which compactions lag until the one at which writes stop.
func TestPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("state", Options{FS: disk.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l := &loader{tb: t, s: s, index: 1}
		if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
			t.Fatal(err)
		}
		e := s.eng.Load()
		var deepest int32
		for range 20 { // compactions begin at 8
			l.fill(1000) // the same keys: tables lie one on the other
			if _, err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			deep := e.db.Metrics().Levels[0].Sublevels
			if got := e.depth.Load(); got != deep {
				t.Fatalf("%d sublevels are taken for %d", deep, got)
			}
			deepest = max(deepest, deep)
		}
		if deepest < 2 {
			t.Errorf("no more than %d sublevels: the test shows nothing", deepest)
		}
		for depth, want := range map[int32]float64{0: 0, easyDepth: 0, (easyDepth + fullDepth) / 2: 0.5, fullDepth: 1, stopDepth: 1} {
			e.depth.Store(depth)
			if got := s.Pressure(); got != want {
				t.Errorf("%d sublevels: pressure %v, want %v", depth, got, want)
			}
		}
	})
}

// TestPressureOfAnOpenedStore: it is known without a flush, and noticed after that,
// whatever ends while the engine is being opened. (A compaction that ended then had all
// that ended later ignored.)
func TestPressureOfAnOpenedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disk.NewMem()
		s, err := Open("state", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		l := &loader{tb: t, s: s, index: 1}
		if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
			t.Fatal(err)
		}
		grow := func() {
			l.fill(1000)
			if _, err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 3 {
			grow()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open("state", Options{FS: fs}); err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		l.s = s
		e := s.eng.Load()
		check := func(when string, least int32) {
			t.Helper()
			synctest.Wait()
			if got, deep := e.depth.Load(), e.db.Metrics().Levels[0].Sublevels; got != deep || deep < least {
				t.Errorf("%s: %d sublevels are taken for %d", when, got, deep)
			}
		}
		check("opened", 3)
		e.refs.Store(0) // as while it opens
		e.lookAtDepth()
		synctest.Wait()
		e.refs.Store(1)
		grow()
		check("grown", 0)
	})
}
