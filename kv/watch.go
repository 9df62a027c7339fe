package kv

import (
	"fmt"
	"time"
)

// Change is what one revision did to the watched range: all of its events
// together, in the order of the transaction that made them.
type Change struct {
	Revision Revision
	Events   []Event // belong to the receiver, values included; empty with Progress
	// Progress: nothing happened at Revision itself. It promises that every event
	// up to Revision that the watch asks for has been delivered before.
	Progress bool
}

// EventKind says what happened to a key.
type EventKind uint8

const (
	// EventPut: the key was written, and Event.Item is what it holds.
	EventPut EventKind = 1
	// EventDelete: the key was removed. Event.Item has Key and ModRevision, the
	// revision of the removal, and nothing else.
	EventDelete EventKind = 2
)

func (k EventKind) String() string {
	switch k {
	case EventPut:
		return "put"
	case EventDelete:
		return "delete"
	}
	return fmt.Sprintf("event kind %d", uint8(k))
}

// Event is what a revision did to one key.
type Event struct {
	Kind EventKind
	Item Item
	// Prev, with WithPrevious, is the item as it was before; nil if the key was
	// absent, or if the previous items of the revision take more than
	// MaxPreviousBytes together: those after that are left out.
	Prev *Item
}

// MaxPreviousBytes bounds the previous items of one Change: the removal of a
// range can have any number of bytes of them.
const MaxPreviousBytes = 16 << 20

// WatchOption changes a Watch.
type WatchOption interface{ ApplyWatch(*WatchOptions) }

// WatchOptions is what the options of a Watch come to. Users pass options
// instead; the struct is exported for implementations of KV.
type WatchOptions struct {
	Resume   bool     // begin after the revision After; else now
	After    Revision // with Resume
	Previous bool
	// OnlyPuts and OnlyDeletes leave out the other kind.
	OnlyPuts, OnlyDeletes bool
	Progress              time.Duration // 0: none
}

type watchOption func(*WatchOptions)

func (f watchOption) ApplyWatch(o *WatchOptions) { f(o) }

// FromRevision begins a watch with the events of revision r. CompactedError if
// they are gone; ErrFutureRevision if r is above the one that comes next. It
// replaces an AfterRevision before it.
func FromRevision(r Revision) WatchOption { return AfterRevision(r - 1) }

// AfterRevision begins a watch right after revision r, without a gap: r is that
// of the last Change seen, or of a read. CompactedError if r lies below what was
// compacted; ErrFutureRevision if it has not come yet. It replaces a
// FromRevision before it.
func AfterRevision(r Revision) WatchOption {
	return watchOption(func(o *WatchOptions) { o.Resume, o.After = true, r })
}

// WithPrevious asks for the item as it was before each event.
func WithPrevious() WatchOption { return watchOption(func(o *WatchOptions) { o.Previous = true }) }

// OnlyPuts leaves deletes out.
func OnlyPuts() WatchOption { return watchOption(func(o *WatchOptions) { o.OnlyPuts = true }) }

// OnlyDeletes leaves puts out.
func OnlyDeletes() WatchOption { return watchOption(func(o *WatchOptions) { o.OnlyDeletes = true }) }

// MinProgress is the shortest interval that WithProgress takes.
const MinProgress = 10 * time.Millisecond

// WithProgress asks for a Change with Progress whenever nothing was delivered
// for so long: a revision to resume from although nothing happened in the range,
// and a sign of life. The revision does not advance while the member hears of no
// writes.
func WithProgress(interval time.Duration) WatchOption {
	if interval <= 0 {
		interval = -1 // 0 would mean that none was asked for
	}
	return watchOption(func(o *WatchOptions) { o.Progress = interval })
}

// WatchOptionsOf returns what options come to.
func WatchOptionsOf(opts []WatchOption) (o WatchOptions) {
	for _, f := range opts {
		f.ApplyWatch(&o)
	}
	return o
}

// Validate returns an ErrInvalidArgument for options that cannot be met.
func (o *WatchOptions) Validate() error {
	switch {
	case o.Resume && o.After < 0:
		return fmt.Errorf("%w: a watch after revision %d", ErrInvalidArgument, o.After)
	case o.OnlyPuts && o.OnlyDeletes:
		return fmt.Errorf("%w: both OnlyPuts and OnlyDeletes", ErrInvalidArgument)
	case o.Progress != 0 && o.Progress < MinProgress:
		return fmt.Errorf("%w: progress more often than every %v", ErrInvalidArgument, MinProgress)
	}
	return nil
}

// Wants says whether a watch with these options delivers events of that kind.
func (o *WatchOptions) Wants(kind EventKind) bool {
	return !(o.OnlyPuts && kind == EventDelete) && !(o.OnlyDeletes && kind == EventPut)
}
