// Package wireerr carries the errors of package kv over gRPC: a code for
// everybody, and a replkv.v1.ErrorDetail from which the other side restores the
// error as it was: sentinel, operation, outcome, leader.
//
// Invariant: a write's outcome class is never upgraded. What arrives without a
// detail has an unknown outcome, but for UNIMPLEMENTED: there was nobody to do it.
package wireerr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// table gives each sentinel its code and reason. The first row that an error
// matches names it, so the outcome, which any kv.Error can match, is last.
// Reasons are part of the protocol: add rows, never change them.
var table = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{kv.ErrNotFound, codes.NotFound, "NOT_FOUND"},
	{kv.ErrLeaseNotFound, codes.NotFound, "LEASE_NOT_FOUND"},
	{kv.ErrSessionNotFound, codes.NotFound, "SESSION_NOT_FOUND"},
	{kv.ErrConflict, codes.FailedPrecondition, "CONFLICT"}, // not ABORTED: the same request will not succeed later
	{kv.ErrCompacted, codes.OutOfRange, "COMPACTED"},
	{kv.ErrFutureRevision, codes.OutOfRange, "FUTURE_REVISION"},
	{kv.ErrTooLarge, codes.InvalidArgument, "TOO_LARGE"},
	{kv.ErrInvalidArgument, codes.InvalidArgument, "INVALID_ARGUMENT"},
	{kv.ErrInvalidConfig, codes.FailedPrecondition, "INVALID_CONFIG"},
	{kv.ErrOverloaded, codes.ResourceExhausted, "OVERLOADED"},
	{kv.ErrQuota, codes.ResourceExhausted, "QUOTA"},
	{kv.ErrRemoved, codes.FailedPrecondition, "REMOVED"},
	{kv.ErrMemberNotFound, codes.NotFound, "MEMBER_NOT_FOUND"},
	{kv.ErrUnsafeChange, codes.FailedPrecondition, "UNSAFE_CHANGE"},
	{kv.ErrStaleIdentity, codes.FailedPrecondition, "STALE_IDENTITY"},
	{kv.ErrClosed, codes.Unavailable, "CLOSED"},      // before what may have stopped a member: another may serve
	{kv.ErrNoLeader, codes.Unavailable, "NO_LEADER"}, // before who was not reached, and why: another member may reach the leader
	{kv.ErrWrongCluster, codes.FailedPrecondition, "WRONG_CLUSTER"},
	{kv.ErrFormatTooNew, codes.FailedPrecondition, "FORMAT_TOO_NEW"},
	{kv.ErrDirLocked, codes.FailedPrecondition, "DIR_LOCKED"},
	{kv.ErrCorrupt, codes.DataLoss, "CORRUPT"},
	{kv.ErrAlreadyRegistered, codes.AlreadyExists, "ALREADY_REGISTERED"},
	{kv.ErrTxnTooOld, codes.FailedPrecondition, "TXN_TOO_OLD"},
	{kv.ErrResultDropped, codes.Unknown, "RESULT_DROPPED"}, // done: a code that nobody retries by itself
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	{context.Canceled, codes.Canceled, "CANCELED"},
	{kv.ErrOutcomeUnknown, codes.Unknown, "OUTCOME_UNKNOWN"}, // not UNAVAILABLE or ABORTED, which generic clients retry
}

// maxMessageBytes bounds the text of a status, which travels in a header.
const maxMessageBytes = 4 << 10

// ToStatus returns err as a gRPC status error with a detail. A status error
// that has no kv error in it is returned as it is.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	e, isKV := errors.AsType[*kv.Error](err)
	if isKV && e.Err == nil { // its Error method would panic
		c := *e
		c.Err = errNoCause
		e, err = &c, &c
	}
	code, reason := classify(err)
	if _, isStatus := status.FromError(err); isStatus && !isKV && reason == "" {
		return err
	}
	detail := &replkvv1.ErrorDetail{Reason: reason, Outcome: toOutcome(kv.OutcomeOf(err))}
	if isKV {
		detail.Op = clean(e.Op)
		detail.LeaderId, detail.LeaderAddress = clean(e.LeaderID), clean(e.LeaderAddr)
	}
	if c, ok := errors.AsType[*kv.CompactedError](err); ok {
		detail.Revision, detail.CompactedRevision = int64(c.Revision), int64(c.Compacted)
	}
	s, detailErr := status.New(code, message(err)).WithDetails(detail)
	if detailErr != nil { // cannot be: all strings are clean. Without a detail: unknown
		return status.Error(codes.Unknown, message(err))
	}
	return s.Err()
}

var errNoCause = errors.New("unspecified error")

func classify(err error) (codes.Code, string) {
	for _, row := range table {
		if errors.Is(err, row.err) {
			return row.code, row.reason
		}
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return s.Code(), ""
	}
	return codes.Unknown, ""
}

// message is the cause's text; what kv.Error adds to it travels in the detail.
func message(err error) string {
	if e, ok := err.(*kv.Error); ok {
		err = e.Err
	}
	return clean(err.Error())
}

// clean makes a string fit for a header and a proto3 string, which must be
// short and valid UTF-8: with anything else the detail, and the outcome with
// it, would be lost.
func clean(s string) string {
	if len(s) > maxMessageBytes {
		s = s[:maxMessageBytes]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// FromStatus restores what ToStatus was given, as a *kv.Error. An error that
// carries no detail keeps its own text and code.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*kv.Error); ok {
		return e
	}
	s, ok := status.FromError(err)
	if !ok {
		return &kv.Error{Err: err}
	}
	for _, d := range s.Details() {
		if detail, ok := d.(*replkvv1.ErrorDetail); ok {
			return restore(err, s, detail)
		}
	}
	return foreign(err, s)
}

func restore(err error, s *status.Status, d *replkvv1.ErrorDetail) error {
	return &kv.Error{
		Op: d.GetOp(), Outcome: fromOutcome(d.GetOutcome()),
		LeaderID: d.GetLeaderId(), LeaderAddr: d.GetLeaderAddress(),
		Err: answer{cause(err, s, d)},
	}
}

// answer is the cause of an error that the other process has answered with.
type answer struct{ error }

func (a answer) Unwrap() error { return a.error }

// Answered says whether an error of FromStatus is what the other process said, rather
// than what became of the attempt to reach it.
func Answered(err error) bool {
	_, ok := errors.AsType[answer](err)
	return ok
}

func cause(err error, s *status.Status, d *replkvv1.ErrorDetail) error {
	if d.GetReason() == "COMPACTED" && d.GetCompactedRevision() != 0 {
		return &kv.CompactedError{Revision: kv.Revision(d.GetRevision()), Compacted: kv.Revision(d.GetCompactedRevision())}
	}
	for _, row := range table {
		if row.reason == d.GetReason() {
			return named(s.Message(), row.err)
		}
	}
	return err // a reason of a later version, or none
}

// foreign is an error that no ToStatus made: gRPC's own, an interceptor's, a
// proxy's.
func foreign(err error, s *status.Status) error {
	e := &kv.Error{Err: err}
	switch s.Code() {
	case codes.Unimplemented:
		e.Outcome = kv.OutcomeNotDone
	case codes.Canceled:
		e.Err = named(err.Error(), context.Canceled)
	case codes.Unavailable: // a connection that broke, a proxy with nobody behind it
		e.Err = fmt.Errorf("%w: %w", kv.ErrNoLeader, err)
	case codes.DeadlineExceeded:
		e.Err = named(err.Error(), context.DeadlineExceeded)
	}
	return e
}

// remote is a sentinel with the text that came over the wire.
type remote struct {
	text     string
	sentinel error
}

func named(text string, sentinel error) error {
	if text == "" || text == sentinel.Error() {
		return sentinel
	}
	return &remote{text, sentinel}
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.sentinel }

func toOutcome(o kv.Outcome) replkvv1.Outcome {
	switch o {
	case kv.OutcomeNotDone:
		return replkvv1.Outcome_OUTCOME_NOT_DONE
	case kv.OutcomeDone:
		return replkvv1.Outcome_OUTCOME_DONE
	}
	return replkvv1.Outcome_OUTCOME_UNKNOWN
}

func fromOutcome(o replkvv1.Outcome) kv.Outcome {
	switch o {
	case replkvv1.Outcome_OUTCOME_NOT_DONE:
		return kv.OutcomeNotDone
	case replkvv1.Outcome_OUTCOME_DONE:
		return kv.OutcomeDone
	}
	return kv.OutcomeUnknown
}
