package store

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/kv"
)

// Options of a store. A zero field is a documented default.
type Options struct {
	FS     vfs.FS       // nil: the operating system's
	Logger *slog.Logger // nil: silent
	// CacheBytes bounds the block cache and the memtables, which Pebble takes
	// out of it, together: what they leave is for blocks. The default is 64 MiB.
	CacheBytes int64
	// MemTableBytes is the size of a memtable; there are up to 4, mostly 2. The
	// default is 16 MiB. Why not larger: three members in one process need 170 MB
	// more with 32 MiB here and in the log, and are no faster; and the flush
	// before a snapshot takes longer. Why not smaller: 4 of them are what a flush
	// that waits for the disk may last.
	MemTableBytes int64
	// OnFatal is called once, with the first error after which the state can
	// no longer be trusted or written. It must not call the store.
	OnFatal func(error)
	// OnMembers is called after an apply that changed the table of members, which
	// should be made durable soon. It must not block.
	OnMembers func()
	// OnLease is called with each lease that an apply has changed or, without
	// there, ended, before the state shows it. It must not block, nor call the
	// store.
	OnLease func(id kv.LeaseID, l Lease, there bool)
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
		o.MemTableBytes = 16 << 20
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.OnMembers == nil {
		o.OnMembers = func() {}
	}
	if o.OnLease == nil {
		o.OnLease = func(kv.LeaseID, Lease, bool) {}
	}
	return o
}
