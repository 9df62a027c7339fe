package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/lni/dragonboat/v4/statemachine"
)

// state is a map. It is a concurrent state machine, so that reads and snapshots
// do not wait for batches of writes.
type state struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func newState(uint64, uint64) statemachine.IConcurrentStateMachine {
	return &state{m: map[string][]byte{}}
}

func encode(key string, value []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 4+len(key)+len(value)), uint64(len(key)))
	return append(append(b, key...), value...)
}

var errCommand = errors.New("a command is cut off")

func decode(cmd []byte) (key string, value []byte, err error) {
	n, size := binary.Uvarint(cmd)
	if size <= 0 || n > uint64(len(cmd)-size) {
		return "", nil, errCommand
	}
	cmd = cmd[size:]
	return string(cmd[:n]), append([]byte(nil), cmd[n:]...), nil
}

func (s *state) Update(entries []statemachine.Entry) ([]statemachine.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		key, value, err := decode(entries[i].Cmd)
		if err != nil {
			return nil, err
		}
		s.m[key] = value
		entries[i].Result.Value = 1
	}
	return entries, nil
}

func (s *state) Lookup(key any) (any, error) {
	k, ok := key.(string)
	if !ok {
		return nil, fmt.Errorf("a key of type %T", key)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[k], nil
}

// PrepareSnapshot copies the map, whose values are never changed in place.
func (s *state) PrepareSnapshot() (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.m), nil
}

// SaveSnapshot writes commands, each behind its length.
func (s *state) SaveSnapshot(m any, w io.Writer, _ statemachine.ISnapshotFileCollection, _ <-chan struct{}) error {
	buf := bufio.NewWriterSize(w, 1<<20)
	var size []byte
	for k, v := range m.(map[string][]byte) {
		cmd := encode(k, v)
		size = binary.AppendUvarint(size[:0], uint64(len(cmd)))
		if _, err := buf.Write(append(size, cmd...)); err != nil {
			return err
		}
	}
	return buf.Flush()
}

func (s *state) RecoverFromSnapshot(r io.Reader, _ []statemachine.SnapshotFile, _ <-chan struct{}) error {
	m := map[string][]byte{}
	buf := bufio.NewReaderSize(r, 1<<20)
	for {
		size, err := binary.ReadUvarint(buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		cmd := make([]byte, size)
		if _, err := io.ReadFull(buf, cmd); err != nil {
			return err
		}
		key, value, err := decode(cmd)
		if err != nil {
			return err
		}
		m[key] = value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = m
	return nil
}

func (s *state) Close() error { return nil }
