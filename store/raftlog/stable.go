package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// Set stores value under key and returns when it is on stable storage. A key
// has 1 to 1024 bytes, a value up to 1 MiB (ErrInvalid). Both are copied. Any
// other error is fatal.
func (l *Log) Set(key, value []byte) error {
	if len(key) == 0 || len(key) > maxStableKey || len(value) > maxStableValue {
		return fmt.Errorf("%w: stable key of %d bytes, value of %d", ErrInvalid, len(key), len(value))
	}
	rowKey := stableKey(key)
	row := encodeStable(rowKey, value)
	return l.write("Set", func() error {
		batch := l.db.NewBatch()
		if err := batch.Set(rowKey, row, nil); err != nil {
			return err
		}
		return l.commit(batch, pebble.Sync)
	})
}

// Get returns the value stored under key, which the caller owns;
// ErrKeyNotFound if there is none. Any other error but ErrClosed is fatal.
func (l *Log) Get(key []byte) ([]byte, error) {
	if !l.gate.Enter() {
		return nil, ErrClosed
	}
	defer l.gate.Leave()
	rowKey := stableKey(key)
	row, err := l.get(rowKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrKeyNotFound // as it is: raft compares the text
	}
	if err == nil {
		var value []byte
		if value, err = decodeStable(rowKey, row); err == nil {
			return value, nil
		}
	}
	return nil, l.failed.fail(fmt.Errorf("raft log: stable value %q: %w", key, err))
}

// SetUint64 stores value as 8 bytes, big endian; what Set says holds.
func (l *Log) SetUint64(key []byte, value uint64) error {
	return l.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns what SetUint64 stored; 0 and ErrKeyNotFound if there is
// nothing.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	value, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("raft log: %w: stable number %q of %d bytes", kv.ErrCorrupt, key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
