package kv

import "time"

// Each verb has an option type of its own, so that an option that means
// nothing to a verb does not compile. Options that several verbs share
// implement several of the interfaces.

// GetOption changes a Get.
type GetOption interface{ ApplyGet(*ReadOptions) }

// ScanOption changes a Scan.
type ScanOption interface{ ApplyScan(*ScanOptions) }

// ReadOption changes a Get or a Scan.
type ReadOption interface {
	GetOption
	ScanOption
}

// SetOption changes a Set.
type SetOption interface{ ApplySet(*SetOptions) }

// DeleteOption changes a Delete or DeleteRange.
type DeleteOption interface{ ApplyDelete(*DeleteOptions) }

// WriteCondition is an option of Set and Delete.
type WriteCondition interface {
	SetOption
	DeleteOption
}

// ReadOptions is what the options of a Get come to. Users pass options
// instead; the struct is exported for implementations of KV.
type ReadOptions struct {
	Local    bool     // read this member's state as it is
	AtLeast  Revision // > 0: wait until this member has applied it, then read locally
	Revision Revision // > 0: read as of this revision
	// > 0: the member's own state will do if it is at most so old.
	MaxStaleness time.Duration
}

// ScanOptions is what the options of a Scan come to.
type ScanOptions struct {
	ReadOptions
	Limit    int // 0: all
	Reverse  bool
	KeysOnly bool
}

// SetOptions is what the options of a Set come to.
type SetOptions struct {
	Conditional bool
	IfRevision  Revision // with Conditional; 0: the key must be absent
	Lease       LeaseID  // the key is to hang on; 0: none
}

// DeleteOptions is what the options of a Delete or DeleteRange come to.
type DeleteOptions struct {
	Conditional bool
	IfRevision  Revision
	ReturnPrev  bool
}

type readOption func(*ReadOptions)

func (o readOption) ApplyGet(g *ReadOptions)  { o(g) }
func (o readOption) ApplyScan(s *ScanOptions) { o(&s.ReadOptions) }

type scanOption func(*ScanOptions)

func (o scanOption) ApplyScan(s *ScanOptions) { o(s) }

type deleteOption func(*DeleteOptions)

func (o deleteOption) ApplyDelete(d *DeleteOptions) { o(d) }

type ifRevision Revision

func (r ifRevision) ApplySet(s *SetOptions) { s.Conditional, s.IfRevision = true, Revision(r) }

func (r ifRevision) ApplyDelete(d *DeleteOptions) { d.Conditional, d.IfRevision = true, Revision(r) }

// Local reads this member's own state without asking anybody: fast, available
// without a quorum, and possibly stale. After a crash it may even be older
// than a Local read before it.
func Local() ReadOption { return readOption(func(o *ReadOptions) { o.Local = true }) }

// AtLeast waits until this member has applied revision r, then reads locally:
// with the revision of an earlier write, reads your own writes on any member.
func AtLeast(r Revision) ReadOption { return readOption(func(o *ReadOptions) { o.AtLeast = r }) }

// MaxStaleness reads this member's own state if it holds all that was
// acknowledged until d ago, as far as it can tell, and is a linearizable read
// otherwise. The member's own clock measures d, from when it last asked for a
// read index: without such reads it asks once in d.
func MaxStaleness(d time.Duration) ReadOption {
	return readOption(func(o *ReadOptions) { o.MaxStaleness = d })
}

// AtRevision reads as of revision r: ErrCompacted if that history is gone,
// ErrFutureRevision if it has not come yet.
func AtRevision(r Revision) ReadOption { return readOption(func(o *ReadOptions) { o.Revision = r }) }

// Limit ends a Scan after n items; Limit(0), the default, means all.
func Limit(n int) ScanOption { return scanOption(func(o *ScanOptions) { o.Limit = n }) }

// Reverse scans from the last key to the first.
func Reverse() ScanOption { return scanOption(func(o *ScanOptions) { o.Reverse = true }) }

// KeysOnly leaves Item.Value nil.
func KeysOnly() ScanOption { return scanOption(func(o *ScanOptions) { o.KeysOnly = true }) }

// IfRevision makes a Set or Delete conditional: the key's ModRevision must be
// r, else ErrConflict. IfRevision(0) means that the key must be absent.
// DeleteRange does not take it (ErrInvalidArgument).
func IfRevision(r Revision) WriteCondition { return ifRevision(r) }

// IfAbsent makes a Set succeed only if the key is absent, else ErrConflict.
func IfAbsent() SetOption { return ifRevision(0) }

// ReturnPrev asks for the deleted items in DeleteResult.Prev. ErrResultDropped: they are
// deleted, but not returned, since with those of concurrent deletes they are too large.
func ReturnPrev() DeleteOption { return deleteOption(func(o *DeleteOptions) { o.ReturnPrev = true }) }
