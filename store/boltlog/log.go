package boltlog

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/internal/gate"
	"github.com/replkv/replkv/store/raftlog"
)

var (
	_ raftlog.Store          = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// Log is raft's log and stable store. Its methods may be called from any
// goroutine; writes happen one after the other, reads beside them. After Close
// they answer raftlog.ErrClosed.
type Log struct {
	opts Options
	file *file      // set by Open, never changed
	gate *gate.Gate // counts the calls that use file

	closeOnce sync.Once
	closeErr  error

	writes sync.Mutex // held by the one call that writes entries

	mu struct { // protects the fields below; never held across a read or write of the file
		sync.Mutex
		// Invariant: both are 0 (empty), or 0 < first <= last and exactly the
		// indexes from first to last have rows, all of them on stable storage.
		first, last uint64
		// end is the offset that the next entry gets: that of last + its bytes.
		end int64
		// generation counts the deletions: what was read under an older one
		// may have been replaced.
		generation uint64
		failed     error // the first failure; every later call answers it
	}
}

// Open opens the log in the file raft.db of dir, creating both if need be. It
// verifies the format, and the first and last entry. Errors wrap
// kv.ErrDirLocked, kv.ErrCorrupt or kv.ErrFormatTooNew where that is the cause.
// A raft.db that another program wrote is refused as corrupt.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{opts: o.withDefaults(), gate: gate.New()}
	if err := l.open(dir); err != nil {
		return nil, fmt.Errorf("open raft log in bolt: %w", err)
	}
	return l, nil
}

func (l *Log) open(dir string) (err error) {
	if err := disk.MkdirAll(disk.Default, dir); err != nil {
		return err
	}
	path := filepath.Join(dir, fileName)
	if err := createFile(path, l.opts.LockTimeout); err != nil {
		return err
	}
	if l.file, err = openFile(path, l.opts.LockTimeout); err != nil {
		return err
	}
	if err := l.load(); err != nil {
		l.closeFile() // bolt has written nothing that could fail to be kept
		return err
	}
	return nil
}

// load checks the format row and finds the ends of the log.
func (l *Log) load() error {
	var format []byte
	err := l.bolt("format", func() (err error) {
		format, err = l.file.Get(formatKey)
		return err
	})
	if err == raftboltdb.ErrKeyNotFound {
		return fmt.Errorf("%w: no format row: not a file of replkv", kv.ErrCorrupt)
	}
	if err != nil {
		return err
	}
	if err := checkFormat(format); err != nil {
		return err
	}
	var first, last uint64
	err = l.bolt("ends", func() error {
		var firstErr, lastErr error
		first, firstErr = l.file.FirstIndex()
		last, lastErr = l.file.LastIndex()
		return errors.Join(firstErr, lastErr)
	})
	if err != nil || last == 0 {
		return err
	}
	return l.loadEnds(first, last)
}

func (l *Log) loadEnds(first, last uint64) error {
	if first == 0 {
		return fmt.Errorf("%w: entry with index 0", kv.ErrCorrupt)
	}
	if _, _, err := l.read(first); err != nil {
		return err
	}
	entry, offset, err := l.read(last)
	if err != nil {
		return err
	}
	l.mu.first, l.mu.last, l.mu.end = first, last, offset+entryBytes(&entry)
	return nil
}

// IsMonotonic says that the log has no gaps, so raft must empty it after it
// restored a snapshot. Besides, that cures raft issue 697: in a log that may
// have gaps, an entry at the snapshot's index that contradicts the snapshot
// would stay and block replication.
func (l *Log) IsMonotonic() bool { return true }

// enter begins a call that uses the file: with nil, gate.Leave must follow.
func (l *Log) enter() error {
	if !l.gate.Enter() {
		return raftlog.ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed != nil {
		l.gate.Leave()
	}
	return l.mu.failed
}

// bolt calls fn, which uses the file. An error that is no answer is recorded.
func (l *Log) bolt(op string, fn func() error) error {
	err := protect(fn)
	if isAnswer(err) {
		return err
	}
	return l.fail(fmt.Errorf("%s: %w", op, marked(err)))
}

// fail records err unless an earlier failure stands, and returns what stands:
// after a failed write bolt's memory and the disk may differ, and after a panic
// bolt's locks may be held.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed == nil {
		l.mu.failed = fmt.Errorf("raft log in bolt: %w", err)
	}
	return l.mu.failed
}

// Close waits for calls under way and closes the file. If they take longer
// than Options.CloseTimeout it leaves the file open and answers
// raftlog.ErrStalled; after a failure it answers that. It may be called again
// and gives the same answer.
func (l *Log) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.gate.Close()
	var expired <-chan time.Time
	if l.opts.CloseTimeout > 0 {
		timer := time.NewTimer(l.opts.CloseTimeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-l.gate.Idle():
	case <-expired:
		return l.fail(fmt.Errorf("%w: close took longer than %v", raftlog.ErrStalled, l.opts.CloseTimeout))
	}
	err := l.closeFile()
	l.mu.Lock()
	defer l.mu.Unlock()
	return cmp.Or(l.mu.failed, err)
}

// closeFile is called when nobody uses the file.
func (l *Log) closeFile() error {
	l.mu.Lock()
	panicked := errors.Is(l.mu.failed, errPanicked)
	l.mu.Unlock()
	if panicked {
		return l.file.abandon()
	}
	return protect(l.file.Close)
}
