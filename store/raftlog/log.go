package raftlog

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/internal/gate"
)

var (
	_ raft.LogStore          = (*Log)(nil)
	_ raft.StableStore       = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// Log is raft's log and stable store. Its methods may be called from any
// goroutine; writes happen one after the other, reads beside them.
type Log struct {
	opts   Options
	db     *pebble.DB // set by Open, never changed
	engine *engine
	failed *failure
	worker *worker    // runs all writes
	gate   *gate.Gate // counts the calls that use db

	closeOnce sync.Once
	closeErr  error

	mu struct { // protects the fields below; never held across a read or write of the engine
		sync.Mutex
		// Invariant: both are 0 (empty), or 0 < first <= last and exactly the
		// indexes from first to last have rows, all of them on stable storage.
		first, last uint64
		// end is the offset that the next entry gets: that of last + its row's bytes.
		end int64
		// generation counts the truncations of a suffix: a row read under an
		// older one may have been replaced.
		generation uint64
		tail       tail
		ahead      readahead
	}
}

// Open opens the log in dir, creating dir if need be. It verifies the format
// and the first and last entry; [Log.Verify] reads all. Errors wrap
// kv.ErrFormatTooNew or kv.ErrCorrupt where that is the cause.
func Open(dir string, o Options) (*Log, error) {
	o = o.withDefaults()
	l := &Log{opts: o, gate: gate.New(), failed: newFailure(o.Logger, o.OnFatal)}
	l.engine = newEngine(l.failed, o.Logger)
	l.worker = startWorker(l.failed)
	l.mu.tail.limit = o.CacheBytes
	// On the worker: Pebble parks a goroutine that meets a fatal error. No
	// deadline: replaying Pebble's own log may take long.
	if err := l.worker.do("open", 0, func() error { return l.open(dir) }); err != nil {
		l.worker.stop()
		l.abandon()
		return nil, fmt.Errorf("open raft log: %w", err)
	}
	return l, nil
}

func (l *Log) open(dir string) (err error) {
	defer l.engine.survive(&err)
	fs, opened, _ := disk.ForEngine(l.opts.FS, dir, l.engine.strand)
	db, err := pebble.Open(dir, l.engine.options(fs))
	if err != nil {
		return disk.OpenError(err)
	}
	opened()
	l.db = db
	return l.load()
}

// abandon closes the engine after an Open that failed. Damage that Pebble meets in
// the background fails the log while the worker still opens it, or has just done
// so; an engine that is left open would look at the same damage for ever.
func (l *Log) abandon() {
	select {
	case <-l.worker.ended:
	case <-l.engine.parked:
	}
	select {
	case <-l.engine.parked: // it cannot be closed any more
	default:
		if l.db != nil {
			l.db.Close() // why it is closed is the error that matters
		}
	}
}

// load checks the format row, or writes it to an empty engine, and finds the
// ends of the log.
func (l *Log) load() error {
	row, err := l.get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return l.create()
	}
	if err != nil {
		return err
	}
	if err := checkFormat(row); err != nil {
		return err
	}
	return l.loadEnds()
}

func (l *Log) create() error {
	it, err := l.db.NewIter(nil)
	if err != nil {
		return marked(err)
	}
	found := it.First()
	if err := it.Close(); err != nil {
		return marked(err)
	}
	if found {
		return fmt.Errorf("raft log: %w: rows but no format row", kv.ErrCorrupt)
	}
	return l.db.Set(formatKey, encodeFormat(formatVersion), pebble.Sync)
}

func (l *Log) loadEnds() error {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(0), UpperBound: entryKeyAfter(maxIndex)})
	if err != nil {
		return marked(err)
	}
	defer it.Close()
	if !it.First() {
		return marked(it.Error())
	}
	first, _, err := iterEntry(it)
	if err != nil {
		return err
	}
	if !it.Last() {
		return marked(it.Error())
	}
	last, row, err := iterEntry(it)
	if err != nil {
		return err
	}
	if first == 0 {
		return fmt.Errorf("raft log: %w: entry with index 0", kv.ErrCorrupt)
	}
	l.mu.first, l.mu.last = first, last
	l.mu.end = entryOffset(row) + int64(len(row))
	return nil
}

// FirstIndex is the index of the oldest entry, 0 while there is none.
func (l *Log) FirstIndex() (uint64, error) {
	first, _, err := l.ends()
	return first, err
}

// LastIndex is the index of the newest entry, 0 while there is none.
func (l *Log) LastIndex() (uint64, error) {
	_, last, err := l.ends()
	return last, err
}

func (l *Log) ends() (first, last uint64, err error) {
	if !l.gate.Enter() {
		return 0, 0, ErrClosed
	}
	defer l.gate.Leave()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.first, l.mu.last, nil
}

// IsMonotonic says that the log has no gaps, so raft must empty it after it
// restored a snapshot. Besides, that cures raft issue 697: in a log that may
// have gaps, an entry at the snapshot's index that contradicts the snapshot
// would stay and block replication.
func (l *Log) IsMonotonic() bool { return true }

// WritesBounded says that every write returns within Options.WriteDeadline,
// whatever the disk does, so that a [Guard] need not see to it.
func (l *Log) WritesBounded() bool { return l.opts.WriteDeadline > 0 }

// OnFailure has hook called at the first fatal error, at once if it has
// happened; what Options.OnFatal says holds for it too.
func (l *Log) OnFailure(hook func(error)) { l.failed.notify(hook) }

// Err is the fatal error, nil while there is none.
func (l *Log) Err() error { return l.failed.err() }

// Close waits for calls under way and closes the engine. After a fatal error
// it returns that error, and may leave the engine as it is. It may be called
// again and gives the same answer.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.gate.Close()
	l.worker.end()
	if err := l.failed.err(); errors.Is(err, ErrStalled) {
		return err // waiting once more would not help
	}
	var expired <-chan time.Time
	if l.opts.WriteDeadline > 0 {
		timer := time.NewTimer(l.opts.WriteDeadline)
		defer timer.Stop()
		expired = timer.C
	}
	closed := make(chan error, 1)
	for _, idle := range []<-chan struct{}{l.gate.Idle(), l.worker.ended} {
		select {
		case <-idle:
		case <-l.engine.parked:
			return l.failed.err()
		case <-expired:
			return l.failed.fail(stalled("close", l.opts.WriteDeadline))
		}
	}
	select {
	case <-l.engine.parked:
		return l.failed.err()
	default:
	}
	go func() { closed <- l.db.Close() }()
	select {
	case err := <-closed:
		return errors.Join(l.failed.err(), err)
	case <-l.engine.parked:
		return l.failed.err()
	case <-expired:
		return l.failed.fail(stalled("close", l.opts.WriteDeadline))
	}
}
