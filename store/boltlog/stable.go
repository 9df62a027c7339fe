package boltlog

import (
	"bytes"
	"encoding/binary"
	"fmt"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/raftlog"
)

// Set stores value under key and returns when it is on stable storage. A key
// has 1 to 1024 bytes, a value up to 1 MiB; "replkv format" is taken
// (raftlog.ErrInvalid). Both are copied. Any other error is final.
func (l *Log) Set(key, value []byte) error {
	if len(key) == 0 || len(key) > maxStableKey || len(value) > maxStableValue || bytes.Equal(key, formatKey) {
		return fmt.Errorf("%w: stable key %.40q, value of %d bytes", raftlog.ErrInvalid, key, len(value))
	}
	if err := l.enter(); err != nil {
		return err
	}
	defer l.gate.Leave()
	row := sealed(key, value)
	return l.bolt("Set", func() error { return l.file.Set(key, row) })
}

// Get returns the value stored under key, which the caller owns;
// raftlog.ErrKeyNotFound if there is none. Any other error but
// raftlog.ErrClosed is final.
func (l *Log) Get(key []byte) (value []byte, err error) {
	if len(key) == 0 || bytes.Equal(key, formatKey) {
		return nil, raftlog.ErrKeyNotFound
	}
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.gate.Leave()
	err = l.bolt("Get", func() error {
		row, err := l.file.Get(key)
		if err == nil {
			value, err = unsealed(key, row)
		}
		return err
	})
	if err == raftboltdb.ErrKeyNotFound {
		return nil, raftlog.ErrKeyNotFound // as it is: raft compares the text
	}
	return value, err
}

// SetUint64 stores value as 8 bytes, big endian; what Set says holds.
func (l *Log) SetUint64(key []byte, value uint64) error {
	return l.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns what SetUint64 stored; 0 and raftlog.ErrKeyNotFound if
// there is nothing.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	value, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("raft log in bolt: %w: stable number %q of %d bytes", kv.ErrCorrupt, key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
