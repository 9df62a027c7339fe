package boltlog

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/replkv/replkv/kv"
)

// errPanicked marks what protect made of a panic: bolt's locks may be held.
var errPanicked = errors.New("bolt panicked")

// protect calls fn and turns a panic into an error. bolt panics at pages that
// make no sense, raft-boltdb at rows too short for a number, and reading a
// memory map behind the end of its file, or from a disk that fails, is a fault.
func protect(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %w: %v", kv.ErrCorrupt, errPanicked, p)
		}
	}()
	return fn()
}

// isAnswer tells a miss from a failure. Both must reach raft as they are.
func isAnswer(err error) bool {
	return err == nil || err == raft.ErrLogNotFound || err == raftboltdb.ErrKeyNotFound
}

// marked adds this project's error to bolt's.
func marked(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %w", kv.ErrDirLocked, err)
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", kv.ErrFormatTooNew, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: %w", kv.ErrCorrupt, err)
	}
	return err
}

// undecodable marks what GetLog answers if it is not bolt itself that fails:
// then it is the decoder of the entry.
func undecodable(err error) error {
	if isAnswer(err) || errors.Is(err, bolterrors.ErrDatabaseNotOpen) || errors.Is(err, bolterrors.ErrInvalidMapping) {
		return err
	}
	return fmt.Errorf("%w: %w", kv.ErrCorrupt, err)
}
