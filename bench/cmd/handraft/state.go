package main

import (
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/raft"
)

// state is a map.
type state struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func newState() *state { return &state{m: map[string][]byte{}} }

func encode(key string, value []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 4+len(key)+len(value)), uint64(len(key)))
	return append(append(b, key...), value...)
}

var errCommand = errors.New("a command is cut off")

// Apply is called for one entry at a time.
func (s *state) Apply(l *raft.Log) any {
	n, size := binary.Uvarint(l.Data)
	if size <= 0 || n > uint64(len(l.Data)-size) {
		return errCommand
	}
	kv := l.Data[size:]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[string(kv[:n])] = append([]byte(nil), kv[n:]...)
	return nil
}

func (s *state) get(key string) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[key]
}

// Snapshot copies the map, whose values are never changed in place.
func (s *state) Snapshot() (raft.FSMSnapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return snapshot(maps.Clone(s.m)), nil
}

func (s *state) Restore(r io.ReadCloser) error {
	defer r.Close()
	m := map[string][]byte{}
	if err := gob.NewDecoder(r).Decode(&m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = m
	return nil
}

type snapshot map[string][]byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := gob.NewEncoder(sink).Encode(map[string][]byte(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}
