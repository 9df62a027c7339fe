package store

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a store. A zero field is a documented default.
type Options struct {
	FS     vfs.FS       // nil: the operating system's
	Logger *slog.Logger // nil: silent
	// CacheBytes bounds the block cache. The default is 64 MiB: it holds the
	// index and filter blocks of some 10 GB.
	CacheBytes int64
	// MemTableBytes is the size of a memtable; up to 4 of them exist. The
	// default is 32 MiB: smaller ones flush so often that apply waits for
	// compactions, larger ones make the flush before a snapshot slow.
	MemTableBytes int64
	// OnFatal is called once, with the first error after which the state can
	// no longer be trusted or written. It must not call the store.
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
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 32 << 20
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	return o
}
