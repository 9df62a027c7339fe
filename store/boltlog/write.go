package boltlog

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
)

// StoreLog is StoreLogs of one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries, all or none, and returns when they are on stable
// storage. They must be contiguous, follow the last entry (raftlog.ErrGap) and
// come to less than 1 GiB (raftlog.ErrInvalid); an empty log may begin anywhere
// above 0. Any other error is final and leaves open whether they were stored.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	if err := checkEntries(entries); err != nil {
		return err
	}
	if err := l.enter(); err != nil {
		return err
	}
	defer l.gate.Leave()
	l.writes.Lock()
	defer l.writes.Unlock()
	return l.append(entries)
}

func checkEntries(entries []*raft.Log) error {
	var size int64
	for i, entry := range entries {
		if entry == nil {
			return fmt.Errorf("%w: nil entry", raftlog.ErrInvalid)
		}
		if entry.Index == 0 || entry.Index != entries[0].Index+uint64(i) {
			return fmt.Errorf("%w: entry %d has index %d, the first of the call %d", raftlog.ErrGap, i, entry.Index, entries[0].Index)
		}
		if size += entryBytes(entry); size >= maxBatchBytes {
			return fmt.Errorf("%w: entries of more than %d bytes", raftlog.ErrInvalid, maxBatchBytes)
		}
	}
	return nil
}

// append runs with writes held, so that no other write changes the ends.
func (l *Log) append(entries []*raft.Log) error {
	before := l.now()
	first, end := entries[0].Index, before.end
	if before.last != 0 && first != before.last+1 {
		return fmt.Errorf("%w: entry %d after %d", raftlog.ErrGap, first, before.last)
	}
	rows := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		rows[i] = sealEntry(entry, end)
		end += entryBytes(entry)
	}
	if err := l.bolt("StoreLogs", func() error { return l.file.StoreLogs(rows) }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.last == 0 {
		l.mu.first = first
	}
	l.mu.last, l.mu.end = first+uint64(len(rows))-1, end
	return nil
}

// DeleteRange deletes the entries from low to high, both included, durably and
// at once; indexes without an entry are ignored. A range that would leave
// entries on both sides is refused (raftlog.ErrGap). Any other error is final.
func (l *Log) DeleteRange(low, high uint64) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.gate.Leave()
	l.writes.Lock()
	defer l.writes.Unlock()
	before := l.now()
	if before.last == 0 || low > high || high < before.first || low > before.last {
		return nil
	}
	low, high = max(low, before.first), min(high, before.last)
	if low > before.first && high < before.last {
		return fmt.Errorf("%w: deleting %d-%d of %d-%d leaves a hole", raftlog.ErrGap, low, high, before.first, before.last)
	}
	after, err := l.without(before, low, high)
	if err != nil {
		return err
	}
	// Out of the ends before out of the file: a reader that finds no row for
	// an entry within the ends takes it for lost, and the log for corrupt.
	l.mu.Lock()
	l.mu.first, l.mu.last, l.mu.end = after.first, after.last, after.end
	l.mu.generation++
	l.mu.Unlock()
	return l.bolt("DeleteRange", func() error { return l.file.DeleteRange(low, high) })
}

// without is what is left of the log when low to high are gone.
func (l *Log) without(e ends, low, high uint64) (ends, error) {
	switch {
	case high < e.last:
		e.first = high + 1
		return e, nil
	case low == e.first:
		return ends{}, nil
	}
	_, offset, err := l.read(low)
	if err == raft.ErrLogNotFound {
		err = l.missing(low)
	}
	e.last, e.end = low-1, offset
	return e, err
}
