package optimistic

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/internal/kvmodel"
	"github.com/replkv/replkv/kv"
)

// modelStore runs Updates on a model.
type modelStore struct {
	mu sync.Mutex
	m  kvmodel.Model
}

func (s *modelStore) Begin(_ context.Context, after kv.Revision) (kv.Snapshot, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if after > s.m.Rev {
		panic("a revision that is not there")
	}
	return snapshot{s, s.m.Rev}, func() {}, nil
}

func (s *modelStore) Txn(_ context.Context, t kv.Txn) (kv.TxnResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.Txn(&t)
}

type snapshot struct {
	s   *modelStore
	rev kv.Revision
}

func (s snapshot) Revision() kv.Revision { return s.rev }

func (s snapshot) Get(_ context.Context, key string) (kv.Item, error) {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	it, ok := s.s.m.At(key, s.rev)
	if !ok {
		return kv.Item{}, kv.ErrNotFound
	}
	return it, nil
}

func (s snapshot) Scan(context.Context, kv.Range, kv.ScanOptions) iter.Seq2[kv.Item, error] {
	return func(func(kv.Item, error) bool) {}
}

// TestTurns: who has conflicted runs again in the order of the conflicts, one at a
// time, and gives up waiting when ctx ends or somebody keeps the turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn turn
		ctx, cancel := context.WithCancel(t.Context())
		give := turn.take(ctx)
		var order []int
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				mine := ctx
				if i != 1 {
					mine = t.Context()
				}
				defer turn.take(mine)()
				if i != 1 {
					order = append(order, i)
				}
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		give()
		wg.Wait()
		if !slices.Equal(order, []int{0, 2}) || turn.taken || len(turn.queue) > 0 {
			t.Errorf("order %v, then %+v", order, &turn)
		}
		give = turn.take(t.Context())
		began := time.Now()
		turn.take(t.Context())()
		if took := time.Since(began); took != patience || !turn.taken {
			t.Errorf("patience of %v", took)
		}
		if give(); turn.taken {
			t.Error("the turn was not given back")
		}
	})
}

// TestUpdateWithin: an Update in the function of another, on the same key, and both
// conflict: they get on, if late.
func TestUpdateWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &modelStore{m: kvmodel.New()}
		var turns Turns
		disturb := func() {
			if _, err := s.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.SetOp("k", nil)}}); err != nil {
				t.Error(err)
			}
		}
		update := func(within func(run int)) int {
			runs := 0
			if _, err := Update(t.Context(), s, &turns, kv.TxLimits{}, func(tx *kv.Tx) error {
				tx.Get("k")
				runs++
				within(runs)
				return tx.Set("k", []byte("x"))
			}, func() {}); err != nil {
				t.Error(err)
			}
			return runs
		}
		if runs := update(func(run int) {
			switch run {
			case 1:
				disturb()
			case 2:
				update(func(run int) {
					if run == 1 {
						disturb()
					}
				})
			}
		}); runs != 3 {
			t.Errorf("%d runs", runs)
		}
	})
}

// TestUpdateConflictsForEver: ctx ends it, and nothing is done.
func TestUpdateConflictsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &modelStore{m: kvmodel.New()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conflicts := 0
		_, err := Update(ctx, s, new(Turns), kv.TxLimits{}, func(tx *kv.Tx) error {
			tx.Get("k")
			s.Txn(ctx, kv.Txn{Then: []kv.Op{kv.SetOp("k", nil)}})
			return tx.Set("mine", nil)
		}, func() { conflicts++ })
		if !errors.Is(err, kv.ErrConflict) || !errors.Is(err, context.DeadlineExceeded) || kv.OutcomeOf(err) != kv.OutcomeNotDone || conflicts < 10 {
			t.Errorf("after %d conflicts: %v (%v)", conflicts, err, kv.OutcomeOf(err))
		}
		if _, ok := s.m.At("mine", s.m.Rev); ok {
			t.Error("it was done")
		}
	})
}

// TestDroppedAnswer: an Update whose answer was too large to keep is committed, or
// runs again, as the branch says that was taken.
func TestDroppedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &dropping{modelStore{m: kvmodel.New()}}
		runs := 0
		rev, err := Update(t.Context(), s, new(Turns), kv.TxLimits{}, func(tx *kv.Tx) error {
			tx.Get("k")
			if runs++; runs == 1 {
				s.modelStore.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.SetOp("k", nil)}})
			}
			return tx.Set("k", []byte("mine"))
		}, func() {})
		if it, _ := s.m.At("k", s.m.Rev); err != nil || runs != 2 || rev != 3 || string(it.Value) != "mine" {
			t.Errorf("revision %d after %d runs, %v; %q is there", rev, runs, err, it.Value)
		}
	})
}

type dropping struct{ modelStore }

func (s *dropping) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	res, _ := s.modelStore.Txn(ctx, t)
	return kv.TxnResult{Succeeded: res.Succeeded, Revision: res.Revision}, &kv.Error{Outcome: kv.OutcomeDone, Err: kv.ErrResultDropped}
}

// TestOnlyItsOwnCompaction: an Update runs again, at a newer revision, if the one that
// it reads was compacted; not because fn has met ErrCompacted elsewhere.
func TestOnlyItsOwnCompaction(t *testing.T) {
	s := &compacting{modelStore: modelStore{m: kvmodel.New()}}
	if _, err := s.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.SetOp("k", nil)}}); err != nil {
		t.Fatal(err)
	}
	runs := 0
	if _, err := Update(t.Context(), s, new(Turns), kv.TxLimits{}, func(tx *kv.Tx) error {
		s.gone = runs == 0
		runs++
		_, err := tx.Get("k")
		return err
	}, func() {}); err != nil || runs != 2 {
		t.Errorf("its own revision was compacted: %d runs, %v", runs, err)
	}
	runs = 0
	if _, err := Update(t.Context(), s, new(Turns), kv.TxLimits{}, func(*kv.Tx) error { runs++; return kv.ErrCompacted }, func() {}); err != kv.ErrCompacted || runs != 1 {
		t.Errorf("fn's own error: %d runs, %v", runs, err)
	}
}

type compacting struct {
	modelStore
	gone bool
}

func (s *compacting) Begin(ctx context.Context, after kv.Revision) (kv.Snapshot, func(), error) {
	if after != 0 {
		panic("the compacted revision again")
	}
	snap, end, err := s.modelStore.Begin(ctx, after)
	return goneSnapshot{snap, s}, end, err
}

type goneSnapshot struct {
	kv.Snapshot
	s *compacting
}

func (s goneSnapshot) Get(ctx context.Context, key string) (kv.Item, error) {
	if s.s.gone {
		return kv.Item{}, &kv.CompactedError{}
	}
	return s.Snapshot.Get(ctx, key)
}
