package service

import (
	"errors"
	"fmt"

	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// invalid makes an INVALID_ARGUMENT for what is refused here.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{kv.ErrInvalidArgument}, args...)...)
}

// notDone is the status of a call that changed nothing: a read, or a write
// that was refused before the backend saw it. An outcome that the backend
// itself gave stays.
func notDone(op string, err error) error {
	if _, ok := errors.AsType[*kv.Error](err); !ok {
		err = &kv.Error{Op: op, Outcome: kv.OutcomeNotDone, Err: err}
	}
	return wireerr.ToStatus(err)
}

// writeError is the status of a write that the backend saw. What it did not
// classify is unknown.
func writeError(op string, err error) error {
	if _, ok := errors.AsType[*kv.Error](err); !ok {
		err = &kv.Error{Op: op, Err: err}
	}
	return wireerr.ToStatus(err)
}
