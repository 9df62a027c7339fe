package raftlog

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// DefaultCacheBytes holds what replication to followers that keep up
	// reads. Why not smaller: entries may be 1 MiB. Why not larger: a
	// follower that lags further is served by read-ahead at about the same cost.
	DefaultCacheBytes = 8 << 20

	// DefaultWriteDeadline is how long a write may hang. Why not shorter: a
	// network disk that fails over pauses for seconds and comes back. Why not
	// longer: a stalled leader keeps its office by heartbeats, and callers
	// give up after a request timeout of 10 s.
	DefaultWriteDeadline = 10 * time.Second
)

// Options of a Log. The zero value of each field is its documented default.
type Options struct {
	// FS holds the engine's files. nil: vfs.Default.
	FS vfs.FS
	// Logger gets failures and write stalls. nil: silent.
	Logger *slog.Logger
	// CacheBytes bounds the cache of the newest entries, row overhead
	// included; it may be exceeded by one StoreLogs call.
	// 0: DefaultCacheBytes; negative: no cache.
	CacheBytes int64
	// WriteDeadline bounds each write and Close. 0: DefaultWriteDeadline;
	// negative: none.
	WriteDeadline time.Duration
	// OnFatal is called once, with the first fatal error, on the goroutine
	// that met it. It must not block nor call the Log: Pebble may hold its
	// mutex. nil: nobody is told.
	OnFatal func(error)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.WriteDeadline == 0 {
		o.WriteDeadline = DefaultWriteDeadline
	}
	return o
}
