package kv

import (
	"fmt"
)

// Range is a set of keys that lie together: a single key, a prefix, an
// interval, or everything. The zero Range is invalid, so that a forgotten
// argument does not mean "everything". Ranges are comparable with ==.
type Range struct {
	from, to string // to is exclusive; meaningless when open
	open     bool   // no upper bound
	set      bool   // made by a constructor
}

// Key is the range of one key.
func Key(k string) Range { return Range{from: k, to: k + "\x00", set: true} }

// Prefix is the range of all keys that begin with p. Prefix("") is All().
func Prefix(p string) Range {
	end, ok := prefixEnd(p)
	return Range{from: p, to: end, open: !ok, set: true}
}

// Between is the range of keys k with from <= k < to. A from above to is an
// error when the range is used; use From for a range without an upper bound.
func Between(from, to string) Range { return Range{from: from, to: to, set: true} }

// From is the range of keys at or above k.
func From(k string) Range { return Range{from: k, open: true, set: true} }

// All is the range of all keys.
func All() Range { return Range{open: true, set: true} }

// Bounds returns the range as from <= k < to; with open, there is no upper
// bound and to is "".
func (r Range) Bounds() (from, to string, open bool) { return r.from, r.to, r.open }

// IsZero reports whether r is the zero Range, which no verb accepts.
func (r Range) IsZero() bool { return !r.set }

// Contains reports whether k lies in r.
func (r Range) Contains(k string) bool {
	return r.set && k >= r.from && (r.open || k < r.to)
}

// Validate returns an ErrInvalidArgument if r is zero or its bounds are inverted.
func (r Range) Validate() error {
	if !r.set {
		return fmt.Errorf("%w: the zero Range; use Key, Prefix, Between, From or All", ErrInvalidArgument)
	}
	if !r.open && r.from > r.to {
		return fmt.Errorf("%w: range bounds are inverted: from %q to %q", ErrInvalidArgument, r.from, r.to)
	}
	return nil
}

func (r Range) String() string {
	switch {
	case !r.set:
		return "(no range)"
	case r.open && r.from == "":
		return "(all keys)"
	case r.open:
		return fmt.Sprintf("[%q, ...)", r.from)
	}
	return fmt.Sprintf("[%q, %q)", r.from, r.to)
}

// prefixEnd returns the least string above all strings that begin with p;
// false if there is none (p is empty or all 0xff).
func prefixEnd(p string) (string, bool) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := []byte(p[:i+1])
			end[i]++
			return string(end), true
		}
	}
	return "", false
}
