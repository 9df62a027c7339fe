package boltlog

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

// FirstIndex is the index of the oldest entry, 0 while there is none.
func (l *Log) FirstIndex() (uint64, error) {
	e, err := l.ends()
	return e.first, err
}

// LastIndex is the index of the newest entry, 0 while there is none.
func (l *Log) LastIndex() (uint64, error) {
	e, err := l.ends()
	return e.last, err
}

// ends of the log at one moment.
type ends struct {
	first, last uint64
	end         int64
	generation  uint64
}

func (e ends) hold(index uint64) bool { return e.last != 0 && e.first <= index && index <= e.last }

func (l *Log) ends() (ends, error) {
	if err := l.enter(); err != nil {
		return ends{}, err
	}
	defer l.gate.Leave()
	return l.now(), nil
}

func (l *Log) now() ends {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ends{l.mu.first, l.mu.last, l.mu.end, l.mu.generation}
}

// GetLog reads the entry at index; raft.ErrLogNotFound if there is none. Any
// other error but raftlog.ErrClosed is final. All fields of entry are set, to
// memory that the caller owns; AppendedAt is in UTC.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.gate.Leave()
	for {
		before := l.now()
		if !before.hold(index) {
			return raft.ErrLogNotFound
		}
		stored, _, err := l.read(index)
		if err != raft.ErrLogNotFound {
			if err == nil {
				*entry = stored
			}
			return err
		}
		if l.now().generation == before.generation {
			return l.missing(index)
		}
		// A deletion came in between: look again.
	}
}

// BytesFrom is the bytes that the entries at index and above take: 64 each
// besides Data and Extensions. It costs at most one read. On a failed or
// closed log it is 0.
func (l *Log) BytesFrom(index uint64) int64 {
	if l.enter() != nil {
		return 0
	}
	defer l.gate.Leave()
	for {
		before := l.now()
		if before.last == 0 || index > before.last {
			return 0
		}
		at := max(index, before.first)
		_, offset, err := l.read(at)
		if l.now().generation != before.generation {
			continue // offset may be that of an entry that replaced another
		}
		if err == raft.ErrLogNotFound {
			l.missing(at)
		}
		if err != nil {
			return 0
		}
		return before.end - offset
	}
}

func (l *Log) missing(index uint64) error {
	return l.fail(fmt.Errorf("%w: entry %d is missing", kv.ErrCorrupt, index))
}

// read reads and verifies one entry; raft.ErrLogNotFound if there is none. It
// decodes into fresh memory: raft-boltdb leaves alone what an entry lacks.
func (l *Log) read(index uint64) (entry raft.Log, offset int64, err error) {
	err = l.bolt(fmt.Sprintf("entry %d", index), func() (err error) {
		if err = undecodable(l.file.GetLog(index, &entry)); err == nil {
			offset, err = unsealEntry(index, &entry)
		}
		return err
	})
	return entry, offset, err
}
