package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// engine is what Pebble reports to. Pebble expects Fatalf to end the process;
// here it records the failure and parks the goroutine, which may hold
// Pebble's mutex, for as long as the process lives. Where Pebble panics
// instead, on the goroutine of a write, see survive.
type engine struct {
	failed  *failure
	logger  *slog.Logger
	parkOne sync.Once
	parked  chan struct{} // closed when a goroutine is parked: the engine cannot be closed any more
	release chan struct{}
	freeOne sync.Once
}

func newEngine(failed *failure, logger *slog.Logger) *engine {
	return &engine{failed: failed, logger: logger, parked: make(chan struct{}), release: make(chan struct{})}
}

// options are those measured best for a log: entries of a few hundred bytes
// to 1 MiB, appended with a sync each, deleted from the front.
func (e *engine) options(fs disk.FS) *pebble.Options {
	o := &pebble.Options{
		FS: fs,
		// By name: FormatNewest moves with the dependency and cannot go back.
		FormatMajorVersion: pebble.FormatValueSeparation,
		CacheSize:          16 << 20,
		// A flush is work that entries which are deleted before do not need. But
		// memory is dear: larger memtables, up to 128 MB of them instead of 64,
		// gained nothing that could be measured.
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		// Nearly all compactions are moves, which write nothing: new entries follow
		// the old ones, and those are taken out by whole files (excise).
		L0CompactionThreshold: 2,
		LBaseMaxBytes:         1 << 30, // all below level 0 is one level
		L0StopWritesThreshold: 64,
		FlushSplitBytes:       64 << 20,
		Logger:                e,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { e.logger.Error("raft log: background error", "error", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				e.failed.fail(fmt.Errorf("raft log: %w: %s: %v", kv.ErrCorrupt, info.Path, info.Details))
			},
			WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
				e.logger.Warn("raft log: writes wait for flushes", "reason", info.Reason)
			},
		},
	}
	// An entry is written twice, and lives for a minute: it is not worth the time.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	o.TargetFileSizes[0] = 64 << 20
	o.Levels[0].BlockSize = 32 << 10
	o.Experimental.SpanPolicyFunc = fileOfSpace
	return o
}

// Infof drops Pebble's chatter: flushes, compactions, files.
func (e *engine) Infof(string, ...any) {}

// Errorf is called by Pebble for errors that it survives.
func (e *engine) Errorf(format string, args ...any) {
	e.logger.Error("raft log engine: " + fmt.Sprintf(format, args...))
}

// Fatalf is called by Pebble where it cannot go on. It never returns.
func (e *engine) Fatalf(format string, args ...any) {
	err := fmt.Errorf("raft log engine: %s", fmt.Sprintf(format, args...))
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			err = fmt.Errorf("raft log engine: %w", cause)
		}
	}
	e.park(err)
}

// park ends the life of a goroutine of Pebble's.
func (e *engine) park(err error) {
	e.failed.fail(marked(err))
	e.parkOne.Do(func() { close(e.parked) })
	<-e.release
	runtime.Goexit()
}

// strand is park for good: where Pebble's deferred functions must not run.
func (e *engine) strand(err error) {
	e.failed.fail(marked(err))
	e.parkOne.Do(func() { close(e.parked) })
	select {}
}

// survive, deferred around calls of Pebble, turns a panic into their error:
// Pebble panics where it cannot end a write-ahead log (db.go, rotateWAL). Its
// mutexes may stay locked then: it cannot be closed.
func (e *engine) survive(err *error) {
	p := recover()
	if p == nil {
		return
	}
	cause, ok := p.(error)
	if !ok {
		cause = fmt.Errorf("%v", p)
	}
	e.parkOne.Do(func() { close(e.parked) })
	*err = fmt.Errorf("raft log engine: panic: %w", cause)
}

// ReleaseParked ends the goroutines that Pebble's fatal errors have parked.
// It is for tests that count goroutines, after Close.
func (l *Log) ReleaseParked() {
	l.engine.freeOne.Do(func() { close(l.engine.release) })
}

// marked makes Pebble's corruption errors answer to kv.ErrCorrupt.
func marked(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, kv.ErrCorrupt) {
		return fmt.Errorf("%w: %w", kv.ErrCorrupt, err)
	}
	return err
}

// fileOfSpace ends a file where a space ends. The file of one that held a stable
// value, too, would reach over all entries, and none could be moved past it.
func fileOfSpace(start []byte) (policy pebble.SpanPolicy, end []byte, err error) {
	for _, space := range []byte{spaceEntry, spaceEntry + 1} {
		if len(start) == 0 || start[0] < space {
			return policy, []byte{space}, nil
		}
	}
	return policy, nil, nil
}
