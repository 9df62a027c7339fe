package kv

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// MaxTxnDepth is how deep transactions may be nested. Part of the log's format.
const MaxTxnDepth = 8

// Validate returns an ErrInvalidArgument that says what is wrong with t. Apply
// relies on it: its rules are part of the log's format.
func (t *Txn) Validate() error {
	_, err := t.validate(1)
	return err
}

// Size is how many comparisons and operations t has, nested ones included.
func (t *Txn) Size() int {
	n := len(t.If)
	for _, branch := range [][]Op{t.Then, t.Else} {
		n += len(branch)
		for i := range branch {
			if branch[i].Txn != nil {
				n += branch[i].Txn.Size()
			}
		}
	}
	return n
}

// touched is what a branch may put and delete.
type touched struct {
	puts    map[string]bool
	deletes []Range
}

func (t *Txn) validate(depth int) (out touched, err error) {
	if depth > MaxTxnDepth {
		return out, fmt.Errorf("%w: transactions nested deeper than %d", ErrInvalidArgument, MaxTxnDepth)
	}
	for i := range t.If {
		if err := t.If[i].validate(); err != nil {
			return out, fmt.Errorf("comparison %d: %w", i, err)
		}
	}
	then, err := validateBranch(t.Then, depth)
	if err != nil {
		return out, fmt.Errorf("in Then: %w", err)
	}
	otherwise, err := validateBranch(t.Else, depth)
	if err != nil {
		return out, fmt.Errorf("in Else: %w", err)
	}
	// Only one of the two is done: to whoever comes before and after, it may be either.
	if len(then.puts) == 0 {
		then.puts = otherwise.puts
	} else {
		for k := range otherwise.puts {
			then.puts[k] = true
		}
	}
	then.deletes = append(then.deletes, otherwise.deletes...)
	return then, nil
}

func (c *Compare) validate() error {
	if err := c.Range.Validate(); err != nil {
		return err
	}
	switch {
	case c.Range == Key(""):
		return fmt.Errorf("%w: the key is empty", ErrInvalidArgument)
	case c.Target < TargetVersion || c.Target > TargetUnchanged:
		return fmt.Errorf("%w: unknown target %d", ErrInvalidArgument, c.Target)
	case c.Is < Equal || c.Is > Greater:
		return fmt.Errorf("%w: unknown relation %d", ErrInvalidArgument, c.Is)
	case c.Target == TargetUnchanged && (c.Is != Equal || c.Number < 1):
		return fmt.Errorf("%w: unchanged since revision %d", ErrInvalidArgument, c.Number)
	case c.Number < 0:
		return fmt.Errorf("%w: a comparison with %d", ErrInvalidArgument, c.Number)
	}
	return nil
}

// validateBranch checks the steps of a branch, and that none puts what another
// puts or deletes, whatever branches the nested transactions take.
func validateBranch(ops []Op, depth int) (touched, error) {
	out := touched{puts: map[string]bool{}}
	put := func(key string) error {
		if out.puts[key] {
			return fmt.Errorf("%w: key %q is put twice", ErrInvalidArgument, key)
		}
		out.puts[key] = true
		return nil
	}
	for i := range ops {
		op := &ops[i]
		if err := op.validate(); err != nil {
			return out, fmt.Errorf("operation %d: %w", i, err)
		}
		switch op.Kind {
		case OpSet:
			if err := put(op.Range.from); err != nil {
				return out, err
			}
		case OpDelete:
			out.deletes = append(out.deletes, op.Range)
		case OpTxn:
			inner, err := op.Txn.validate(depth + 1)
			if err != nil {
				return out, fmt.Errorf("operation %d: %w", i, err)
			}
			for k := range inner.puts {
				if err := put(k); err != nil {
					return out, err
				}
			}
			out.deletes = append(out.deletes, inner.deletes...)
		}
	}
	return out, out.disjoint()
}

// disjoint refuses a key that is both put and deleted.
func (t *touched) disjoint() error {
	if len(t.puts) == 0 || len(t.deletes) == 0 {
		return nil
	}
	all := union(t.deletes)
	found, twice := "", false
	for k := range t.puts {
		i, exact := slices.BinarySearchFunc(all, k, func(r Range, k string) int { return strings.Compare(r.from, k) })
		if exact || i > 0 && all[i-1].Contains(k) {
			if !twice || k < found { // the same key in each run
				found, twice = k, true
			}
		}
	}
	if twice {
		return fmt.Errorf("%w: key %q is put and deleted", ErrInvalidArgument, found)
	}
	return nil
}

// union returns disjoint ranges in order that hold the same keys.
func union(ranges []Range) []Range {
	sorted := slices.DeleteFunc(slices.Clone(ranges), func(r Range) bool { return !r.open && r.from >= r.to })
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.from, b.from) })
	var out []Range
	for _, r := range sorted {
		if n := len(out); n > 0 && (out[n-1].open || r.from <= out[n-1].to) {
			last := &out[n-1]
			last.open = last.open || r.open
			last.to = max(last.to, r.to)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (op *Op) validate() error {
	if op.Kind == OpTxn {
		if op.Txn == nil {
			return fmt.Errorf("%w: a nested transaction is missing", ErrInvalidArgument)
		}
		return nil
	}
	if op.Kind < OpSet || op.Kind > OpTxn {
		return fmt.Errorf("%w: unknown operation %d", ErrInvalidArgument, op.Kind)
	}
	if err := op.Range.Validate(); err != nil {
		return err
	}
	switch {
	case op.Range == Key(""):
		return fmt.Errorf("%w: the key is empty", ErrInvalidArgument)
	case op.Kind == OpSet && op.Range != Key(op.Range.from):
		return fmt.Errorf("%w: %v is put, which is not one key", ErrInvalidArgument, op.Range)
	case op.Limit < 0 || op.Limit > math.MaxInt32:
		return fmt.Errorf("%w: limit %d", ErrInvalidArgument, op.Limit)
	case op.Lease < 0:
		return fmt.Errorf("%w: lease %d", ErrInvalidArgument, op.Lease)
	}
	return nil
}
