// Package optimistic runs the functions of View and Update: on a snapshot, without
// locks; what an Update has read is checked when it commits, and it runs again if
// that has changed (Kung and Robinson, On Optimistic Methods for Concurrency Control,
// 1981, with backward validation in the state machine).
package optimistic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/replkv/replkv/kv"
)

// Store is what the functions run on.
type Store interface {
	// Begin opens a snapshot that is at least as new as the store was when it was
	// called, or, with after > 0, as that revision. The caller calls end.
	Begin(ctx context.Context, after kv.Revision) (s kv.Snapshot, end func(), err error)
	// Txn commits.
	Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error)
}

// Pauses between two runs that conflicted are random, below a bound that doubles.
const (
	firstPause = time.Millisecond
	lastPause  = 128 * time.Millisecond
)

// Update runs fn until what it has read is still so when it commits, fn fails, or
// ctx ends. It returns the revision of the commit, or the one that was read if there
// was nothing to commit. conflict is called for each run in vain.
func Update(ctx context.Context, s Store, limits kv.TxLimits, fn func(*kv.Tx) error, conflict func()) (kv.Revision, error) {
	after := kv.Revision(0)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		txn, rev, err := attempt(ctx, s, limits, after, fn)
		if err == nil && txn == nil {
			return rev, nil
		}
		if err == nil {
			var res kv.TxnResult
			if res, err = s.Txn(ctx, *txn); err == nil && res.Succeeded {
				return res.Revision, nil
			}
			// What it conflicted with is there at this revision.
			after = res.Revision
		}
		if err != nil && !errors.Is(err, kv.ErrCompacted) {
			return 0, err
		}
		conflict()
		if err := sleep(ctx, rand.N(pause)); err != nil {
			return 0, &kv.Error{Op: "Update", Outcome: kv.OutcomeNotDone, Err: fmt.Errorf("%w: what it has read changed each time: %w", err, kv.ErrConflict)}
		}
	}
}

// attempt runs fn once. Without changes txn is nil.
func attempt(ctx context.Context, s Store, limits kv.TxLimits, after kv.Revision, fn func(*kv.Tx) error) (txn *kv.Txn, rev kv.Revision, err error) {
	snap, end, err := s.Begin(ctx, after)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	tx := kv.NewTx(ctx, snap, limits)
	defer tx.End() // also if fn panics
	if err := fn(tx); err != nil {
		return nil, 0, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, 0, &kv.Error{Op: "Update", Outcome: kv.OutcomeNotDone, Err: err}
	}
	if !tx.Changes() {
		return nil, snap.Revision(), nil
	}
	t := tx.Txn()
	return &t, 0, nil
}

// View runs fn once.
func View(ctx context.Context, s Store, after kv.Revision, fn func(*kv.ReadTx) error) error {
	snap, end, err := s.Begin(ctx, after)
	if err != nil {
		return err
	}
	defer end()
	tx := kv.NewReadTx(ctx, snap)
	defer tx.End()
	return fn(tx)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
