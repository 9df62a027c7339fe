package raftlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// DeleteRange deletes the entries from low to high, both included; indexes
// without an entry are ignored. A range that would leave entries on both sides
// is refused (ErrGap). The end of the log is deleted durably. The deletion of
// a prefix becomes durable with the next StoreLogs: after a crash the log may
// begin where it did before, or in between.
func (l *Log) DeleteRange(low, high uint64) error {
	return l.write("DeleteRange", func() error { return l.deleteRange(low, high) })
}

// deleteRange runs on the worker, so that no other write changes the ends.
func (l *Log) deleteRange(low, high uint64) error {
	l.mu.Lock()
	first, last := l.mu.first, l.mu.last
	l.mu.Unlock()
	if last == 0 || low > high || high < first || low > last {
		return nil
	}
	switch {
	case high >= last:
		return l.deleteSuffix(max(low, first), first, last)
	case low <= first:
		return l.deletePrefix(first, high)
	}
	return fmt.Errorf("%w: deleting %d-%d of %d-%d leaves a hole", ErrGap, low, high, first, last)
}

// Both deletions take the entries out of the bounds before they take the rows
// out of the engine: a reader that finds no row for an entry within the bounds
// takes it for lost, and the log for corrupt.

// deletePrefix deletes the entries from first to high.
//
// Rejected: a tombstone for all of them. It lies in the file of the entries that
// were new at that time, which then overlaps the files of the old ones, and
// compactions read and write entries again that nobody deletes: 2.7 bytes for
// each byte of log. Without, a file is written once, moved, and deleted.
func (l *Log) deletePrefix(first, high uint64) error {
	l.mu.Lock()
	l.mu.first = high + 1
	l.mu.tail.dropBefore(high + 1)
	l.mu.Unlock()
	// What is in files goes by whole files, what is in memory only by a tombstone
	// there.
	flushed, err := l.flushed(first, high)
	if err != nil {
		return err
	}
	if flushed >= first {
		span := pebble.KeyRange{Start: entryKey(first), End: entryKeyAfter(flushed)}
		if err := l.db.Excise(context.Background(), span); err != nil {
			return l.failed.fail(fmt.Errorf("raft log: %w", marked(err)))
		}
		first = flushed + 1
	}
	if first > high {
		return nil
	}
	return l.deleteRows(first, high, pebble.NoSync)
}

// flushed is the newest entry from low to high that is in a file; 0 if there is
// none.
func (l *Log) flushed(low, high uint64) (index uint64, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(low), UpperBound: entryKeyAfter(high), OnlyReadGuaranteedDurable: true})
	if err == nil {
		if it.Last() {
			index, err = decodeEntryKey(it.Key())
		}
		err = errors.Join(err, it.Close())
	}
	if err != nil {
		return 0, l.failed.fail(fmt.Errorf("raft log: %w", marked(err)))
	}
	return index, nil
}

// deleteSuffix deletes the entries from low on; with low == first, all.
func (l *Log) deleteSuffix(low, first, last uint64) error {
	var end int64
	if low > first {
		var err error
		if end, err = l.offset(low); err != nil {
			return l.failed.fail(err)
		}
	}
	l.mu.Lock()
	l.mu.last, l.mu.end = low-1, end
	if low == first {
		l.mu.first, l.mu.last = 0, 0
	}
	l.mu.generation++
	l.mu.tail.dropFrom(low)
	l.mu.ahead.forget()
	l.mu.Unlock()
	return l.deleteRows(low, last, pebble.Sync)
}

func (l *Log) deleteRows(low, high uint64, o *pebble.WriteOptions) error {
	batch := l.db.NewBatch()
	if err := batch.DeleteRange(entryKey(low), entryKeyAfter(high), nil); err != nil {
		return err
	}
	return l.commit(batch, o)
}
