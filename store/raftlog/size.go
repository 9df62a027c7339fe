package raftlog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

// BytesFrom is the bytes that the entries at index and above take, as rows: 38
// bytes of head and 4 of checksum each besides Data and Extensions. It costs
// at most one point read. On a failed or closed log it is 0.
func (l *Log) BytesFrom(index uint64) int64 {
	if !l.gate.Enter() {
		return 0
	}
	defer l.gate.Leave()
	for {
		l.mu.Lock()
		first, last, end, generation := l.mu.first, l.mu.last, l.mu.end, l.mu.generation
		l.mu.Unlock()
		if last == 0 || index > last {
			return 0
		}
		at := max(index, first)
		offset, err := l.offset(at)
		if err == nil {
			return end - offset
		}
		if l.same(at, reading{generation: generation}) {
			l.failed.fail(err)
			return 0
		}
		// A truncation came in between: look again.
	}
}

// offset is the bytes of the log before the entry at index. It reads past the
// read-ahead, whose places belong to sequential readers.
func (l *Log) offset(index uint64) (int64, error) {
	l.mu.Lock()
	row := l.mu.tail.get(index)
	l.mu.Unlock()
	if row != nil {
		return entryOffset(row), nil
	}
	key := entryKey(index)
	row, err := l.get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		err = fmt.Errorf("%w: %w", kv.ErrCorrupt, raft.ErrLogNotFound)
	}
	if err == nil {
		err = checkEntry(key, row)
	}
	if err != nil {
		return 0, fmt.Errorf("raft log: entry %d: %w", index, err)
	}
	return entryOffset(row), nil
}
