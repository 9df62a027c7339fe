package raftlog

import "errors"

var (
	// ErrClosed is the answer of a Log or Guard after Close.
	ErrClosed = errors.New("raft log is closed")
	// ErrStalled says that the disk did not finish an operation in time. The
	// operation may still take effect; the store is failed for good.
	ErrStalled = errors.New("raft log: the disk is stalled")
	// ErrInvalid refuses an argument; nothing was changed.
	ErrInvalid = errors.New("raft log: invalid argument")
	// ErrGap refuses entries that do not follow the last one, and deletions
	// that would leave a hole; nothing was changed.
	ErrGap = errors.New("raft log: not contiguous")
	// ErrKeyNotFound is the answer of Get and GetUint64 for an absent key.
	// raft knows it by its exact text.
	ErrKeyNotFound = errors.New("not found")
)
