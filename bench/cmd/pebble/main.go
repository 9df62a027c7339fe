// Command pebble measures the limit: one Pebble, each write synced, without
// replication.
package main

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/bench/system"
)

func main() { system.Main("pebble", "github.com/cockroachdb/pebble/v2", open) }

type store struct{ db *pebble.DB }

// open has memtables and a cache that hold what is measured, so that the row is
// the limit and not Pebble's default of 4 MiB and 8 MiB.
func open(dir string) (system.System, error) {
	db, err := pebble.Open(system.MemberDir(dir, 0), &pebble.Options{MemTableSize: 64 << 20, CacheSize: 64 << 20,
		MemTableStopWritesThreshold: 4, Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	return &store{db}, nil
}

func (s *store) Set(_ context.Context, key string, value []byte) error {
	return s.db.Set([]byte(key), value, pebble.Sync)
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	v, closer, err := s.db.Get([]byte(key))
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), closer.Close()
}

func (s *store) GetAny(ctx context.Context, _ int, key string) ([]byte, error) {
	return s.Get(ctx, key)
}
func (s *store) Readers() int  { return 1 }
func (s *store) Majority() int { return 1 }
func (s *store) Close() error  { return s.db.Close() }

// quiet drops what Pebble logs, but for what ends the process.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(format string, args ...any) { pebble.DefaultLogger.Errorf(format, args...) }
func (quiet) Fatalf(format string, args ...any) { pebble.DefaultLogger.Fatalf(format, args...) }
