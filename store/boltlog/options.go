package boltlog

import "time"

const (
	// DefaultLockTimeout: why not shorter: a process that was just told to end
	// needs a moment. Why not longer: one that runs on will not let go.
	DefaultLockTimeout = time.Second

	// DefaultCloseTimeout is raftlog's for the same purpose.
	DefaultCloseTimeout = 10 * time.Second
)

// Options of a Log. The zero value of each field is its documented default.
type Options struct {
	// LockTimeout is how long Open waits for another process, or another Log
	// of this one, to let go of the file. 0: DefaultLockTimeout; it has a
	// resolution of 50 ms, and is at least that.
	LockTimeout time.Duration
	// CloseTimeout is how long Close waits for calls under way. 0:
	// DefaultCloseTimeout; negative: for ever.
	CloseTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.LockTimeout == 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	// bolt takes 0 for "wait for ever".
	o.LockTimeout = max(o.LockTimeout, 50*time.Millisecond)
	if o.CloseTimeout == 0 {
		o.CloseTimeout = DefaultCloseTimeout
	}
	return o
}
