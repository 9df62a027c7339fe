package kv

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinel errors; test with errors.Is. Calls return them wrapped in *Error.
var (
	ErrNotFound        = errors.New("key not found")
	ErrClosed          = errors.New("store is closed")
	ErrNoLeader        = errors.New("no leader")
	ErrOverloaded      = errors.New("overloaded")
	ErrOutcomeUnknown  = errors.New("outcome unknown")
	ErrCompacted       = errors.New("revision has been compacted")
	ErrFutureRevision  = errors.New("revision lies in the future")
	ErrTooLarge        = errors.New("too large")
	ErrInvalidArgument = errors.New("invalid argument")
	ErrInvalidConfig   = errors.New("invalid configuration")
	ErrConflict        = errors.New("condition does not hold")
	ErrLeaseNotFound   = errors.New("lease not found")
	ErrQuota           = errors.New("storage quota exceeded")
	ErrRemoved         = errors.New("member was removed from the cluster")
	ErrWrongCluster    = errors.New("belongs to another cluster")
	ErrMemberNotFound  = errors.New("member not found")
	ErrUnsafeChange    = errors.New("membership change is not safe now")
	// ErrStaleIdentity: the directory is a copy, was rolled back, or stands in
	// for one that is known under the same id.
	ErrStaleIdentity     = errors.New("directory is not the one that the cluster knows")
	ErrFormatTooNew      = errors.New("format is newer than this version can read")
	ErrDirLocked         = errors.New("directory is in use by another process")
	ErrCorrupt           = errors.New("data is corrupt")
	ErrAlreadyRegistered = errors.New("already registered")
	// ErrSessionNotFound: a client's session was evicted, for it was not used for
	// long while many others were. Package client opens another by itself.
	ErrSessionNotFound = errors.New("session not found")
	// ErrTxnTooOld: a View or Update has kept its revision open for too long.
	ErrTxnTooOld     = errors.New("transaction is too old")
	ErrResultDropped = errors.New("done, but its result was too large to keep for a retry")
)

// Outcome says what is known of a write that returned an error.
type Outcome uint8

const (
	// OutcomeUnknown: it may or may not have been done, now or later. It is
	// the zero value, so that what nobody classified is not taken for safe.
	OutcomeUnknown Outcome = iota
	// OutcomeNotDone: it was not done and will not be; it may be retried.
	OutcomeNotDone
	// OutcomeDone: it was done and is durable.
	OutcomeDone
)

func (o Outcome) String() string {
	switch o {
	case OutcomeNotDone:
		return "not done"
	case OutcomeDone:
		return "done"
	}
	return "unknown"
}

// Error is what calls return: the operation, what happened to it, who leads
// as far as known, and the cause, which errors.Is and errors.As see.
type Error struct {
	Op         string // "Set", "Get", ...
	Outcome    Outcome
	LeaderID   string // "" if not known
	LeaderAddr string
	Err        error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("replkv: ")
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.LeaderID != "" {
		fmt.Fprintf(&b, " (leader %s at %s)", e.LeaderID, e.LeaderAddr)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes every error of unknown outcome match ErrOutcomeUnknown.
func (e *Error) Is(target error) bool {
	return target == ErrOutcomeUnknown && e.Outcome == OutcomeUnknown
}

// OutcomeOf returns what is known of a write from the error it returned: Done
// for nil, unknown for an error that is not of this module.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return OutcomeDone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return OutcomeUnknown
}

// CompactedError says that a revision asked for is gone, and from which
// revision on the history is still there. It matches ErrCompacted.
type CompactedError struct {
	Revision  Revision // asked for
	Compacted Revision // reads at this revision and above work
}

func (e *CompactedError) Error() string {
	return fmt.Sprintf("revision %d has been compacted (history begins at %d)", e.Revision, e.Compacted)
}

// Is matches ErrCompacted.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }
