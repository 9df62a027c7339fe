package raftlog

import (
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

const maxIndex = math.MaxUint64

// StoreLog is StoreLogs of one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries, all or none, and returns when they are on stable
// storage. They must be contiguous, follow the last entry (ErrGap) and come to
// less than 1 GiB (ErrInvalid); an empty log may begin anywhere above 0. The
// entries are copied. Any other error is fatal and leaves open whether they
// were stored.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	rows, err := encodeEntries(entries)
	if err != nil {
		return err
	}
	first := entries[0].Index
	return l.write("StoreLogs", func() error { return l.append(first, rows) })
}

// encodeEntries runs on the caller's goroutine: the worker must not touch the
// caller's memory, since the caller may leave it behind.
func encodeEntries(entries []*raft.Log) ([][]byte, error) {
	var size int64
	for i, entry := range entries {
		if entry == nil {
			return nil, fmt.Errorf("%w: nil entry", ErrInvalid)
		}
		if entry.Index == 0 || entry.Index != entries[0].Index+uint64(i) {
			return nil, fmt.Errorf("%w: entry %d has index %d, the first of the call %d", ErrGap, i, entry.Index, entries[0].Index)
		}
		size += int64(entryRowBytes(entry))
		if size >= maxBatchBytes {
			return nil, fmt.Errorf("%w: entries of more than %d bytes", ErrInvalid, maxBatchBytes)
		}
	}
	slab := make([]byte, 0, size)
	rows := make([][]byte, len(entries))
	for i, entry := range entries {
		start := len(slab)
		slab = appendEntry(slab, entry)
		rows[i] = slab[start:len(slab):len(slab)]
	}
	return rows, nil
}

// append runs on the worker.
func (l *Log) append(first uint64, rows [][]byte) error {
	l.mu.Lock()
	last, end := l.mu.last, l.mu.end
	l.mu.Unlock()
	if last != 0 && first != last+1 {
		return fmt.Errorf("%w: entry %d after %d", ErrGap, first, last)
	}
	batch := l.db.NewBatch()
	for i, row := range rows {
		key := entryKey(first + uint64(i))
		sealEntry(key, row, end)
		end += int64(len(row))
		if err := batch.Set(key, row, nil); err != nil {
			return err
		}
	}
	if err := l.commit(batch, pebble.Sync); err != nil {
		return err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.last == 0 {
		l.mu.first = first
	}
	l.mu.last, l.mu.end = first+uint64(len(rows))-1, end
	l.mu.tail.add(first, rows)
	return nil
}

// write runs fn on the worker, within the write deadline.
func (l *Log) write(op string, fn func() error) error {
	if !l.gate.Enter() {
		return ErrClosed
	}
	defer l.gate.Leave()
	return l.worker.do(op, l.opts.WriteDeadline, func() error { return l.survive(fn) })
}

// survive runs fn; if Pebble panics in it, that is a fatal error.
func (l *Log) survive(fn func() error) error {
	err, returned := error(nil), false
	func() {
		defer l.engine.survive(&err)
		err = fn()
		returned = true
	}()
	if !returned {
		return l.failed.fail(err)
	}
	return err
}

// commit applies batch; any error is fatal, since it is unknown what a disk
// that failed a sync has kept.
func (l *Log) commit(batch *pebble.Batch, o *pebble.WriteOptions) error {
	if err := batch.Commit(o); err != nil {
		return l.failed.fail(fmt.Errorf("raft log: %w", marked(err)))
	}
	return batch.Close()
}
