// Package optimistic runs the functions of View and Update: on a snapshot, without
// locks; what an Update has read is checked when it commits, and it runs again if
// that has changed (Kung and Robinson, On Optimistic Methods for Concurrency Control,
// 1981, with backward validation in the state machine).
package optimistic

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
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

// Turns are what the Updates of a process take once they have conflicted: one at a
// time runs again, of those that began with the same key, in the order in which they
// failed. Without, callers that meet on a key mostly undo each other's work: measured
// with 64 on one key, 20 runs for each that committed, and some waited seconds.
// Updates that never conflict take none. The zero Turns is ready.
type Turns struct{ of [256]turn }

type turn struct {
	mu    sync.Mutex
	taken bool
	queue []chan struct{} // who waits; empty unless it is taken
}

// patience is how long an Update waits for its turn: who has it may be slow, or run
// in the function of another.
const patience = 2 * time.Second

// take waits for the turn, and returns how to give it back.
func (t *turn) take(ctx context.Context) (give func()) {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return t.give
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-mine:
		return t.give
	case <-timer.C:
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.queue, mine)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it came just now
		return t.give
	}
	return func() {}
}

func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	close(t.queue[0])
	t.queue = slices.Delete(t.queue, 0, 1)
}

func (t *Turns) at(key string) *turn {
	h := fnv.New32a()
	h.Write([]byte(key))
	return &t.of[h.Sum32()%uint32(len(t.of))]
}

// Update runs fn until what it has read is still so when it commits, fn fails, or
// ctx ends. It returns the revision of the commit, or the one that was read if there
// was nothing to commit. conflict is called for each run in vain.
func Update(ctx context.Context, s Store, turns *Turns, limits kv.TxLimits, fn func(*kv.Tx) error, conflict func()) (kv.Revision, error) {
	after := kv.Revision(0)
	give := func() {}
	defer func() { give() }() // also if fn panics
	for run := 0; ; run++ {
		txn, rev, err := attempt(ctx, s, limits, after, fn)
		switch {
		case errors.Is(err, errGone):
			after = 0 // a newer one
		case err != nil:
			return 0, err
		case txn == nil:
			return rev, nil
		default:
			res, err := s.Txn(ctx, *txn)
			if err != nil && !(errors.Is(err, kv.ErrResultDropped) && res.Revision > 0) {
				return 0, err
			}
			if res.Succeeded {
				return res.Revision, nil
			}
			// What it conflicted with is there at this revision.
			after = res.Revision
		}
		conflict()
		if run == 0 {
			give = turns.at(first(txn)).take(ctx)
		}
		if err := pause(ctx, run); err != nil {
			return 0, &kv.Error{Op: "Update", Outcome: kv.OutcomeNotDone, Err: fmt.Errorf("%w: what it has read changed each time: %w", err, kv.ErrConflict)}
		}
	}
}

// first is the first key that a transaction has read.
func first(t *kv.Txn) (key string) {
	if t != nil && len(t.If) > 0 {
		key, _, _ = t.If[0].Range.Bounds()
	}
	return key
}

// lastPause bounds the pauses before further runs: other processes have turns of
// their own.
const lastPause = 16 * time.Millisecond

// pause waits for a random time below a bound that doubles from run to run; after
// the first, not at all.
func pause(ctx context.Context, run int) error {
	if run > 0 {
		t := time.NewTimer(rand.N(min(500*time.Microsecond<<min(run, 10), lastPause)))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// errGone: the revision that an attempt reads was compacted meanwhile.
var errGone = errors.New("revision is gone")

// noting notes that a read failed because its revision is compacted. An ErrCompacted
// that fn returns may as well be of something else.
type noting struct {
	kv.Snapshot
	gone bool
}

func (n *noting) note(err error) error {
	n.gone = n.gone || errors.Is(err, kv.ErrCompacted)
	return err
}

func (n *noting) Get(ctx context.Context, key string) (kv.Item, error) {
	item, err := n.Snapshot.Get(ctx, key)
	return item, n.note(err)
}

func (n *noting) Scan(ctx context.Context, r kv.Range, o kv.ScanOptions) iter.Seq2[kv.Item, error] {
	return func(yield func(kv.Item, error) bool) {
		for item, err := range n.Snapshot.Scan(ctx, r, o) {
			if !yield(item, n.note(err)) {
				return
			}
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
	noted := &noting{Snapshot: snap}
	tx := kv.NewTx(ctx, noted, limits)
	defer tx.End() // also if fn panics
	if err := fn(tx); err != nil {
		if noted.gone && errors.Is(err, kv.ErrCompacted) {
			err = errGone
		}
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
