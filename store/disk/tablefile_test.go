package disk

import (
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func table(t *testing.T, name string, turns *turns) *tableFile {
	t.Helper()
	f, err := vfs.NewMem().Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	return &tableFile{File: f, closing: new(atomic.Bool), turns: turns}
}

// TestTurns: a table waits while another is written, but not for ever.
func TestTurns(t *testing.T) {
	block := func() []byte { return make([]byte, turnBytes) } // files in memory write to it
	for what, end := range map[string]func(f *tableFile) error{
		"turn is over": func(f *tableFile) error {
			_, err := f.Write(block()[:1]) // what it may write is written
			return err
		},
		"synced":      (*tableFile).Sync,
		"data synced": (*tableFile).SyncData,
		"closed":      (*tableFile).Close,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := newTurns(1)
				first, second := table(t, "1", turns), table(t, "2", turns)
				if _, err := first.Write(block()); err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					if _, err := second.Write(block()); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				select {
				case <-done:
					t.Error("it did not wait for its turn")
				default:
				}
				if err := end(first); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				began := time.Now()
				<-done
				if time.Since(began) > 0 {
					t.Error("it waited on")
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		first, second := table(t, "1", turns), table(t, "2", turns)
		if _, err := first.Write(block()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := second.Write(block()); err != nil || time.Since(began) != turnPatience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := second.Close(); err != nil || len(turns.taken) != 1 {
			t.Errorf("%v, %d turns taken: it gave back what was not its", err, len(turns.taken))
		}
	})
}

// TestFlushesFirst: a compaction waits as long as flushes do.
func TestFlushesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		compaction, flush, other := table(t, "1", turns), table(t, "2", turns), table(t, "3", turns)
		flush.flush, other.flush = true, true
		var order []string
		write := func(f *tableFile, name string) {
			if _, err := f.Write(make([]byte, turnBytes)); err != nil {
				t.Error(err)
			}
			order = append(order, name) // whose turn it is
		}
		write(flush, "flush")
		go write(other, "other flush")
		synctest.Wait()
		go write(compaction, "compaction")
		synctest.Wait()
		go write(flush, "flush") // passes its turn to the other, and waits
		synctest.Wait()
		for _, f := range []*tableFile{other, flush, compaction} {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			time.Sleep(turnPatience / 10)
		}
		synctest.Wait()
		if want := []string{"flush", "other flush", "flush", "compaction"}; !slices.Equal(order, want) {
			t.Errorf("%q, want %q", order, want)
		}
	})
}

// TestTurnsOnDisk: an engine's tables take turns on a real disk, and give them
// back.
func TestTurnsOnDisk(t *testing.T) {
	dir := t.TempDir()
	for fs, takes := range map[FS]bool{vfs.Default: true, vfs.NewMem(): false} {
		e, _, _ := ForEngine(fs, dir, func(err error) { t.Error(err) })
		if err := fs.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := e.Create(filepath.Join(dir, "1.sst"), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("block")); err != nil {
			t.Fatal(err)
		}
		if got := f.(*tableFile).mine; got != takes {
			t.Errorf("%T: it has a turn: %v", fs, got)
		}
		if err := f.Close(); err != nil || f.(*tableFile).mine {
			t.Errorf("%T: after Close: %v, it has a turn: %v", fs, err, f.(*tableFile).mine)
		}
	}
}
