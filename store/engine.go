package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// engine is one open Pebble. Readers hold references, so that an Install can
// swap engines without waiting for them: a closed Pebble panics.
type engine struct {
	db      *pebble.DB
	dir     string
	refs    atomic.Int64 // invariant: the db is open while refs > 0
	closing func()       // compactions end, which take as long as they like
	// closed is closed once the db is; closeErr is valid after that.
	closed   chan struct{}
	closeErr error
	onClose  func() // runs after the db has closed
	stalled  atomic.Bool
	swept    atomic.Int64 // the revision up to which what is superseded was removed
	depth    atomic.Int32 // sublevels of level 0 when last looked at; see lookAtDepth
	looking  sync.Mutex   // an older look does not overwrite a newer one
	tables   atomic.Int64 // begun by flushes and compactions since it was opened
	failed   *engineFailure
	// recent goes with the engine: what a reader found in one engine must not be
	// added to the rows of the next.
	recent *recent
	// removing is the compacted revision up to which what is superseded is being, or
	// was, removed. Invariant: set before a batch that removes anything commits, so
	// that who reads it after he has taken a snapshot knows what may be missing there.
	removing atomic.Int64
	// flushed is how far swept was when Reclaim flushed last, and when that was; its
	// caller's own.
	flushed   kv.Revision
	flushedAt time.Time
}

// engineFailure is where Pebble's goroutines end when they cannot go on: a
// library must not end its host, and they may hold Pebble's mutex, so that
// the engine cannot be closed either. The member fail-stops.
type engineFailure struct {
	report func(error)
	once   sync.Once
	err    error         // the first; set before ch is closed
	ch     chan struct{} // closed at the first
}

// park reports err and never returns.
func (f *engineFailure) park(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.ch)
	})
	f.report(err)
	select {}
}

// formatVersion is pinned by name: FormatNewest moves with the dependency, and
// a store cannot go back.
const formatVersion = pebble.FormatValueSeparation

// openEngine opens the engine in dir. failure is told that it cannot go on, nor be
// closed; corrupt, that it met bad data.
func openEngine(dir string, o Options, readOnly bool, failure, corrupt func(error)) (*engine, error) {
	failed := &engineFailure{report: failure, ch: make(chan struct{})}
	fs, opened, closing := disk.ForEngine(o.FS, dir, func(err error) { failed.park(fmt.Errorf("state: %w", err)) })
	opts := &pebble.Options{
		FS:                          fs,
		Comparer:                    comparer,
		FormatMajorVersion:          formatVersion,
		DisableWAL:                  true, // the raft log is the WAL
		ReadOnly:                    readOnly,
		CacheSize:                   o.CacheBytes,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		// Half as many compactions of level 0, each of twice as much: 4 made p99 of
		// Sets under full load half again as long. Filters keep Gets cheap.
		L0CompactionThreshold: 8,
		// Where apply waits; before, leaders write more slowly (Pressure).
		L0StopWritesThreshold: stopDepth,
		// A second compaction at once if level 0 fills up or much is due: else
		// apply waits for one of the lower levels to end before that of level 0 begins.
		CompactionConcurrencyRange: func() (int, int) { return 1, max(2, min(4, runtime.GOMAXPROCS(0)/2)) },
		Logger:                     pebbleLog{log: o.Logger, failed: failed},
	}
	for i := range opts.Levels {
		// 4 KiB blocks and filters on every level: a point read then costs
		// one small block, an absent key none (measured: 43k -> 63k
		// conditional writes/s against 16 KiB).
		opts.Levels[i].BlockSize = 4 << 10
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].FilterType = pebble.TableFilter
	}
	// Older rows of a key stay beside the newest. Value blocks would move their
	// values away, but Pebble keeps each such block in a buffer of 32 KiB, eight
	// times its size, until its table ends: 60% of all that a cluster under
	// Sets allocated.
	opts.Experimental.SpanPolicyFunc = func([]byte) (pebble.SpanPolicy, []byte, error) {
		return pebble.SpanPolicy{DisableValueSeparationBySuffix: true}, nil, nil
	}
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	e := &engine{dir: dir, closing: closing, closed: make(chan struct{}), failed: failed}
	var stalled atomic.Pointer[time.Time] // when the newest stall began
	opts.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if errors.Is(err, disk.ErrClosing) {
				return
			}
			o.Logger.Error("state: background error", "error", err)
			select {
			case <-failed.ch:
				select {} // Pebble would try again for ever, without a pause
			default:
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			// Pebble compacts the same files again, for ever and without a pause, until
			// it is closed.
			corrupt(fmt.Errorf("%w: state: %s: %w", kv.ErrCorrupt, i.Path, i.Details))
		},
		// Pebble would try again for ever, without a pause, and whoever waits for the
		// flush would hear nothing.
		FlushEnd: func(i pebble.FlushInfo) {
			if isErrno(i.Err) {
				failed.park(fmt.Errorf("state: flush: %w", i.Err))
			}
			e.lookAtDepth()
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if isErrno(i.Err) {
				failed.park(fmt.Errorf("state: compaction: %w", i.Err))
			}
			e.lookAtDepth()
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			began := time.Now()
			stalled.Store(&began)
			e.stalled.Store(true)
			o.Logger.Warn("state: writes stall", "reason", i.Reason)
		},
		// A table done is progress: see Store.Stall.
		TableCreated: func(pebble.TableCreateInfo) { e.tables.Add(1) },
		WriteStallEnd: func() {
			e.stalled.Store(false)
			o.Logger.Info("state: writes go on", "after", time.Since(*stalled.Load()))
		},
	}
	db, err := openPebble(dir, opts, failed)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", disk.OpenError(err))
	}
	opened()
	e.db = db
	e.refs.Store(1)
	e.lookAtDepth()
	return e, nil
}

// isErrno says whether an error is the operating system's.
func isErrno(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// openPebble opens on a goroutine of its own, which may be parked.
func openPebble(dir string, opts *pebble.Options, failed *engineFailure) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		db, err := pebble.Open(dir, opts)
		done <- result{db, err}
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-failed.ch:
		return nil, failed.err
	}
}

// flush makes all that was committed durable. It does not wait for an engine
// that failed.
func (e *engine) flush() error {
	if err := e.whileWell(e.db.Flush); err != nil {
		return fmt.Errorf("state: flush: %w", err)
	}
	return nil
}

// checkpoint links the engine's files into dir. Pebble panics if it cannot
// sync dir; that harms nobody else.
func (e *engine) checkpoint(dir string) error {
	return e.whileWell(func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				cause, ok := p.(error)
				if !ok {
					cause = fmt.Errorf("%v", p)
				}
				err = fmt.Errorf("panic: %w", cause)
			}
		}()
		return e.db.Checkpoint(dir)
	})
}

// whileWell runs fn, but does not wait for it once the engine has failed:
// where Pebble's goroutines are parked, its mutex may be held for ever.
func (e *engine) whileWell(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-e.failed.ch:
		return e.failed.err
	}
}

// tryAcquire takes a reference unless the engine is on its way out.
func (e *engine) tryAcquire() bool {
	for {
		n := e.refs.Load()
		if n == 0 {
			return false
		}
		if e.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one closes the db.
func (e *engine) release() {
	if e.refs.Add(-1) > 0 {
		return
	}
	select {
	case <-e.failed.ch:
		e.closeErr = ErrEngineLeft
	default:
		e.closing()
		e.closeErr = e.whileWell(e.db.Close)
	}
	if e.onClose != nil {
		e.onClose()
	}
	close(e.closed)
}

func asCorrupt(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, kv.ErrCorrupt) {
		return fmt.Errorf("%w: %w", kv.ErrCorrupt, err)
	}
	return err
}

// pebbleLog is Pebble's view of the logger.
type pebbleLog struct {
	log    *slog.Logger
	failed *engineFailure
}

func (l pebbleLog) Infof(string, ...any) {} // per-file chatter

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("state: " + fmt.Sprintf(format, args...))
}

// Fatalf must not return.
func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf("state: "+format, args...)
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			err = fmt.Errorf("state: %w", cause)
		}
	}
	l.failed.park(err)
}
