package raftlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

// GetLog reads the entry at index; raft.ErrLogNotFound if there is none. Any
// other error but ErrClosed is fatal. All fields of entry are set; empty Data
// and Extensions come back nil, AppendedAt in UTC. Their bytes are shared with
// other readers: they stay as they are for ever and must not be changed.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	if !l.gate.Enter() {
		return ErrClosed
	}
	defer l.gate.Leave()
	row, err := l.row(index)
	if err != nil {
		return err
	}
	decodeEntry(index, row, entry)
	return nil
}

// row finds the row of an entry in memory or reads it, and others that follow
// it, from disk.
func (l *Log) row(index uint64) ([]byte, error) {
	for {
		row, want, err := l.cached(index)
		if row != nil || err != nil {
			return row, err
		}
		rows, err := l.readRows(index, want)
		if err != nil {
			return nil, l.failed.fail(err)
		}
		if l.keep(index, rows, want) {
			return rows[0], nil
		}
		// A truncation came in between: look again.
		if len(rows) == 0 && l.same(index, want) {
			return nil, l.failed.fail(fmt.Errorf("raft log: %w: entry %d is missing", kv.ErrCorrupt, index))
		}
	}
}

// reading says how far a read from disk may go, and under which generation.
type reading struct {
	last       uint64
	bytes      int
	generation uint64
}

func (l *Log) cached(index uint64) ([]byte, reading, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.last == 0 || index < l.mu.first || index > l.mu.last {
		return nil, reading{}, raft.ErrLogNotFound
	}
	if row := l.mu.tail.get(index); row != nil {
		return row, reading{}, nil
	}
	if row := l.mu.ahead.get(index); row != nil {
		return row, reading{}, nil
	}
	return nil, reading{l.mu.last, l.mu.ahead.size(index), l.mu.generation}, nil
}

// keep stores what was read ahead, unless the log has been truncated since.
func (l *Log) keep(index uint64, rows [][]byte, want reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(rows) == 0 || l.mu.generation != want.generation {
		return false
	}
	l.mu.ahead.put(index, rows)
	return true
}

// same says whether index is in the log and no suffix was truncated since.
func (l *Log) same(index uint64, want reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.generation == want.generation && l.mu.first <= index && index <= l.mu.last
}

// readRows reads the rows from index on with one iterator: at least one, if
// it is there, and up to want.bytes of them. A row behind the first that is
// missing or damaged ends the reading; whoever asks for it hears of it.
func (l *Log) readRows(index uint64, want reading) ([][]byte, error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(index), UpperBound: entryKeyAfter(want.last)})
	if err != nil {
		return nil, marked(err)
	}
	var rows [][]byte
	size := 0
	for ok := it.First(); ok && size < want.bytes; ok = it.Next() {
		at, row, rowErr := iterEntry(it)
		if rowErr != nil && len(rows) == 0 {
			return nil, errors.Join(rowErr, it.Close())
		}
		if rowErr != nil || at != index+uint64(len(rows)) {
			break
		}
		// A copy each: an entry that the caller keeps holds on to no other.
		rows = append(rows, slices.Clone(row))
		size += len(row)
	}
	if err := it.Close(); err != nil && len(rows) == 0 {
		return nil, marked(err)
	}
	return rows, nil
}

// iterEntry verifies the entry at the iterator's position. The row is valid
// until the iterator moves.
func iterEntry(it *pebble.Iterator) (uint64, []byte, error) {
	index, err := decodeEntryKey(it.Key())
	if err != nil {
		return 0, nil, fmt.Errorf("raft log: %w", err)
	}
	row, err := it.ValueAndErr()
	if err != nil {
		return 0, nil, fmt.Errorf("raft log: entry %d: %w", index, marked(err))
	}
	if err := checkEntry(it.Key(), row); err != nil {
		return 0, nil, fmt.Errorf("raft log: entry %d: %w", index, err)
	}
	return index, row, nil
}

// get reads one row; pebble.ErrNotFound if there is none. The row belongs to the caller.
func (l *Log) get(key []byte) ([]byte, error) {
	value, closer, err := l.db.Get(key)
	if err != nil {
		return nil, marked(err)
	}
	return slices.Clone(value), closer.Close()
}
