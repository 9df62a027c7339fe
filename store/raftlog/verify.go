package raftlog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// Verify reads all entries and checks that each row is whole, that no index
// is missing and that the offsets add up. An error wraps kv.ErrCorrupt if that
// is the cause; the log is not failed by it. No write may happen meanwhile:
// call it between Open and raft's start.
func (l *Log) Verify() error {
	if !l.gate.Enter() {
		return ErrClosed
	}
	defer l.gate.Leave()
	l.mu.Lock()
	first, last, end := l.mu.first, l.mu.last, l.mu.end
	l.mu.Unlock()
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(0), UpperBound: entryKeyAfter(maxIndex)})
	if err != nil {
		return marked(err)
	}
	defer it.Close()
	next, offset := first, int64(-1)
	for ok := it.First(); ok; ok = it.Next() {
		index, row, err := iterEntry(it)
		if err != nil {
			return err
		}
		if index != next {
			return fmt.Errorf("raft log: %w: entry %d where %d should be", kv.ErrCorrupt, index, next)
		}
		if offset >= 0 && entryOffset(row) != offset {
			return fmt.Errorf("raft log: %w: entry %d at offset %d instead of %d", kv.ErrCorrupt, index, entryOffset(row), offset)
		}
		next, offset = index+1, entryOffset(row)+int64(len(row))
	}
	if err := it.Error(); err != nil {
		return marked(err)
	}
	if last != 0 && (next != last+1 || offset != end) {
		return fmt.Errorf("raft log: %w: ends before entry %d instead of %d", kv.ErrCorrupt, next, last+1)
	}
	return nil
}
