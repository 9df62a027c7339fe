package replkv

import (
	"context"
	"iter"
	"time"

	"github.com/replkv/replkv/kv"
)

// The vocabulary of package kv, which client processes share.
type (
	KV             = kv.KV
	Item           = kv.Item
	Revision       = kv.Revision
	LeaseID        = kv.LeaseID
	LeaseInfo      = kv.LeaseInfo
	Range          = kv.Range
	DeleteResult   = kv.DeleteResult
	Error          = kv.Error
	CompactedError = kv.CompactedError
	Outcome        = kv.Outcome
	GetOption      = kv.GetOption
	SetOption      = kv.SetOption
	DeleteOption   = kv.DeleteOption
	ScanOption     = kv.ScanOption
	ReadOption     = kv.ReadOption
	WatchOption    = kv.WatchOption
	Change         = kv.Change
	Event          = kv.Event
	EventKind      = kv.EventKind
	WriteCondition = kv.WriteCondition
	Member         = kv.Member
	Membership     = kv.Membership
	MemberOption   = kv.MemberOption
	Txn            = kv.Txn
	TxnResult      = kv.TxnResult
	Compare        = kv.Compare
	Op             = kv.Op
	OpResult       = kv.OpResult
	ReadTx         = kv.ReadTx
	Tx             = kv.Tx
	GrantOption    = kv.GrantOption
	LeaseOption    = kv.LeaseOption
)

// What a Compare looks at, and how.
const (
	TargetVersion        = kv.TargetVersion
	TargetCreateRevision = kv.TargetCreateRevision
	TargetModRevision    = kv.TargetModRevision
	TargetValue          = kv.TargetValue
	TargetLease          = kv.TargetLease
	TargetUnchanged      = kv.TargetUnchanged
	Equal                = kv.Equal
	NotEqual             = kv.NotEqual
	Less                 = kv.Less
	Greater              = kv.Greater
)

// What an Op does.
const (
	OpSet    = kv.OpSet
	OpGet    = kv.OpGet
	OpDelete = kv.OpDelete
	OpTxn    = kv.OpTxn
)

// What is known of a write that returned an error.
const (
	OutcomeUnknown = kv.OutcomeUnknown
	OutcomeNotDone = kv.OutcomeNotDone
	OutcomeDone    = kv.OutcomeDone
)

// What an event of a Watch tells.
const (
	EventPut    = kv.EventPut
	EventDelete = kv.EventDelete
)

// Bounds of a Watch.
const (
	MinProgress      = kv.MinProgress      // the shortest interval of WithProgress
	MaxPreviousBytes = kv.MaxPreviousBytes // of the previous items of one Change
)

// Sentinel errors; test with errors.Is.
var (
	ErrNotFound          = kv.ErrNotFound
	ErrClosed            = kv.ErrClosed
	ErrNoLeader          = kv.ErrNoLeader
	ErrOverloaded        = kv.ErrOverloaded
	ErrOutcomeUnknown    = kv.ErrOutcomeUnknown
	ErrCompacted         = kv.ErrCompacted
	ErrFutureRevision    = kv.ErrFutureRevision
	ErrTooLarge          = kv.ErrTooLarge
	ErrInvalidArgument   = kv.ErrInvalidArgument
	ErrInvalidConfig     = kv.ErrInvalidConfig
	ErrConflict          = kv.ErrConflict
	ErrLeaseNotFound     = kv.ErrLeaseNotFound
	ErrQuota             = kv.ErrQuota
	ErrRemoved           = kv.ErrRemoved
	ErrWrongCluster      = kv.ErrWrongCluster
	ErrMemberNotFound    = kv.ErrMemberNotFound
	ErrUnsafeChange      = kv.ErrUnsafeChange
	ErrStaleIdentity     = kv.ErrStaleIdentity
	ErrFormatTooNew      = kv.ErrFormatTooNew
	ErrDirLocked         = kv.ErrDirLocked
	ErrCorrupt           = kv.ErrCorrupt
	ErrAlreadyRegistered = kv.ErrAlreadyRegistered
	ErrSessionNotFound   = kv.ErrSessionNotFound
	ErrResultDropped     = kv.ErrResultDropped
	ErrTxnTooOld         = kv.ErrTxnTooOld
)

// OutcomeOf returns what is known of a write from the error it returned.
func OutcomeOf(err error) Outcome { return kv.OutcomeOf(err) }

// Key is the range of one key.
func Key(k string) Range { return kv.Key(k) }

// Prefix is the range of all keys that begin with p.
func Prefix(p string) Range { return kv.Prefix(p) }

// Between is the range of keys k with from <= k < to.
func Between(from, to string) Range { return kv.Between(from, to) }

// From is the range of keys at or above k.
func From(k string) Range { return kv.From(k) }

// All is the range of all keys.
func All() Range { return kv.All() }

// Local reads this member's own state: fast, available without a quorum, and
// possibly stale.
func Local() ReadOption { return kv.Local() }

// MaxStaleness reads this member's own state if it is at most d old.
func MaxStaleness(d time.Duration) ReadOption { return kv.MaxStaleness(d) }

// AtLeast waits until this member has applied revision r, then reads locally.
func AtLeast(r Revision) ReadOption { return kv.AtLeast(r) }

// AtRevision reads as of revision r.
func AtRevision(r Revision) ReadOption { return kv.AtRevision(r) }

// Limit ends a Scan after n items; Limit(0) means all.
func Limit(n int) ScanOption { return kv.Limit(n) }

// Reverse scans from the last key to the first.
func Reverse() ScanOption { return kv.Reverse() }

// KeysOnly leaves Item.Value nil.
func KeysOnly() ScanOption { return kv.KeysOnly() }

// IfRevision makes a Set or Delete conditional on the key's ModRevision; 0
// means that the key must be absent.
func IfRevision(r Revision) WriteCondition { return kv.IfRevision(r) }

// IfAbsent makes a Set succeed only if the key is absent.
func IfAbsent() SetOption { return kv.IfAbsent() }

// ReturnPrev asks for the deleted items.
func ReturnPrev() DeleteOption { return kv.ReturnPrev() }

// FromRevision begins a Watch with the events of revision r.
func FromRevision(r Revision) WatchOption { return kv.FromRevision(r) }

// AfterRevision begins a Watch right after revision r, without a gap.
func AfterRevision(r Revision) WatchOption { return kv.AfterRevision(r) }

// WithPrevious asks a Watch for the item as it was before each event.
func WithPrevious() WatchOption { return kv.WithPrevious() }

// OnlyPuts leaves deletes out of a Watch.
func OnlyPuts() WatchOption { return kv.OnlyPuts() }

// OnlyDeletes leaves puts out of a Watch.
func OnlyDeletes() WatchOption { return kv.OnlyDeletes() }

// WithProgress has a Watch tell how far it is whenever nothing was delivered for
// so long.
func WithProgress(interval time.Duration) WatchOption { return kv.WithProgress(interval) }

// WatchSnapshot yields the state of r, as Changes, then its changes for ever; s is
// a *DB or a *client.Client. See kv.WatchSnapshot.
func WatchSnapshot(ctx context.Context, s KV, r Range, opts ...WatchOption) iter.Seq2[Change, error] {
	return kv.WatchSnapshot(ctx, s, r, opts...)
}

// IfMembership makes a membership change conditional on Membership.Index.
func IfMembership(index uint64) MemberOption { return kv.IfMembership(index) }

// Exists holds if key is there.
func Exists(key string) Compare { return kv.Exists(key) }

// Absent holds if key is not there.
func Absent(key string) Compare { return kv.Absent(key) }

// ValueIs holds if key is there and its value is value.
func ValueIs(key string, value []byte) Compare { return kv.ValueIs(key, value) }

// RevisionIs holds if key's ModRevision is rev; 0: if it is absent.
func RevisionIs(key string, rev Revision) Compare { return kv.RevisionIs(key, rev) }

// Unchanged holds if nothing in r was put or deleted after rev.
func Unchanged(r Range, rev Revision) Compare { return kv.Unchanged(r, rev) }

// SetOp puts value under key.
func SetOp(key string, value []byte) Op { return kv.SetOp(key, value) }

// GetOp reads the items of r.
func GetOp(r Range) Op { return kv.GetOp(r) }

// DeleteOp deletes the keys of r.
func DeleteOp(r Range) Op { return kv.DeleteOp(r) }

// TxnOp runs another transaction within.
func TxnOp(t Txn) Op { return kv.TxnOp(t) }

// Bounds of a lease's TTL.
const (
	MinLeaseTTL = kv.MinLeaseTTL
	MaxLeaseTTL = kv.MaxLeaseTTL
)

// WithLease hangs the key of a Set on a lease: it is deleted when the lease ends.
func WithLease(id LeaseID) SetOption { return kv.WithLease(id) }

// WithLeaseID asks for a lease of that id instead of a random one.
func WithLeaseID(id LeaseID) GrantOption { return kv.WithLeaseID(id) }

// WithKeys asks for the keys that hang on a lease.
func WithKeys() LeaseOption { return kv.WithKeys() }
