package disk

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFile is a table being written, by a flush or a compaction. Those compute
// for tens of milliseconds without a pause. On a machine with few processors all
// else would wait: Go takes a processor away from a goroutine only every 10 ms,
// and looks for what has come from the network only when a processor has nothing
// to do, or else every 10 ms, too. A commit passes through a dozen goroutines
// and two round trips, so it took 40 ms while tables were written.
//
// So a table yields at each block, and tables take turns: no more are written at
// a time than half of the processors can write, those of flushes first, since
// memory waits for them. Pebble hands each block from the goroutine that computes
// to the one that writes, so whoever waits here holds up both.
//
// Rejected: limits on Pebble's compactions, which leave out flushes, and those
// of the members of one process.
type tableFile struct {
	vfs.File
	closing *atomic.Bool // the engine's
	turns   *turns       // nil: it does not take turns
	flush   bool
	mine    bool // it has one of turns
	left    int  // bytes until the next turn
}

// turns are those of all stores of the process: it is its processors that are
// shared.
type turns struct {
	taken   chan struct{}
	flushes atomic.Int32 // that wait
}

var tableTurns = newTurns(max(1, runtime.GOMAXPROCS(0)/2))

func newTurns(n int) *turns { return &turns{taken: make(chan struct{}, n)} }

const (
	// turnBytes is how much is written in a turn: half a millisecond's work.
	turnBytes = 128 << 10
	// turnPatience bounds the wait for a turn: who has it may hang on its disk.
	turnPatience = 20 * time.Millisecond
)

// newTableFile takes turns on real disks only: a disk in memory may be that of
// a test in virtual time, which would stand still while it waits for another's.
func newTableFile(f vfs.File, fs FS, c vfs.DiskWriteCategory, closing *atomic.Bool) *tableFile {
	t := &tableFile{File: f, closing: closing, flush: c == flushCategory}
	if vfs.Root(fs) == vfs.Default {
		t.turns = tableTurns
	}
	return t
}

// flushCategory is Pebble's name for what flushes write.
const flushCategory = "pebble-memtable-flush"

// Write writes a block.
func (f *tableFile) Write(p []byte) (int, error) {
	if f.closing.Load() {
		return 0, ErrClosing
	}
	if f.left <= 0 && f.turns != nil {
		f.pass()
		f.take()
	}
	f.left -= len(p)
	runtime.Gosched()
	return f.File.Write(p)
}

// take waits for a turn, or goes on without.
func (f *tableFile) take() {
	f.left = turnBytes
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	if f.flush {
		f.turns.flushes.Add(1)
		defer f.turns.flushes.Add(-1)
	} else if !f.turns.afterFlushes(patience.C) {
		return
	}
	select {
	case f.turns.taken <- struct{}{}:
		f.mine = true
	case <-patience.C:
	}
}

// afterFlushes waits until no flush waits; false if patience ends first.
func (t *turns) afterFlushes(patience <-chan time.Time) bool {
	if t.flushes.Load() == 0 {
		return true
	}
	tick := time.NewTicker(turnPatience / 20)
	defer tick.Stop()
	for t.flushes.Load() > 0 {
		select {
		case <-tick.C:
		case <-patience:
			return false
		}
	}
	return true
}

// pass gives the turn to another.
func (f *tableFile) pass() {
	if f.mine {
		f.mine = false
		<-f.turns.taken
	}
}

// Sync is what a finished table ends with, or Close.
func (f *tableFile) Sync() error {
	f.pass()
	return f.File.Sync()
}

// SyncData as Sync.
func (f *tableFile) SyncData() error {
	f.pass()
	return f.File.SyncData()
}

// Close passes the turn on, too.
func (f *tableFile) Close() error {
	f.pass()
	return f.File.Close()
}
