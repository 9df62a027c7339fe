package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

func TestMutex(t *testing.T) {
	everyStore(t, func(t *testing.T, store concurrency.Store) {
		ctx := t.Context()
		a, b := newSession(t, store, 0), newSession(t, store, 0)
		// Neither another lock below, nor keys of the application, matter.
		lock(t, concurrency.NewMutex(b, "job/0"))
		if _, err := store.Set(ctx, "job/0123456789abcdef", nil); err != nil {
			t.Fatal(err)
		}
		ma, mb := concurrency.NewMutex(a, "job"), concurrency.NewMutex(b, "job")
		first, err := ma.TryLock(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if it, err := store.Get(ctx, fmt.Sprintf("job/%016x", int64(a.Lease()))); err != nil || it.Lease != a.Lease() || int64(it.CreateRevision) != int64(first) {
			t.Errorf("the key is %+v, %v; the token %d", it, err, first)
		}
		_, err = mb.TryLock(ctx)
		wantError(t, "TryLock", err, concurrency.ErrLocked)
		_, err = ma.Lock(ctx)
		wantError(t, "Lock of one's own lock", err, concurrency.ErrHeld)
		_, err = concurrency.NewMutex(a, "job").TryLock(ctx)
		wantError(t, "TryLock through another Mutex", err, concurrency.ErrHeld)
		wantError(t, "Unlock of another's", mb.Unlock(ctx), concurrency.ErrNotHeld)
		wantOwner(t, store, ma.IsOwner(), true)
		wantOwner(t, store, mb.IsOwner(), false)

		old := ma.IsOwner()
		unlock(t, ma)
		wantOwner(t, store, old, false)
		lock(t, ma)
		wantOwner(t, store, old, false) // the same key, but another holding
		unlock(t, ma)
		wantError(t, "a second Unlock", ma.Unlock(ctx), concurrency.ErrNotHeld)
		if second := lock(t, mb); second <= first {
			t.Errorf("token %d after %d", second, first)
		}
		wantOwner(t, store, mb.IsOwner(), true)
		wantOwner(t, store, ma.IsOwner(), false)
		unlock(t, mb)
		if keys := keysOf(t, store, "job"); len(keys) != 2 {
			t.Errorf("left are %q", keys)
		}
	})
}

// wantOwner does a transaction that IsOwner guards.
func wantOwner(t *testing.T, store kv.KV, owner kv.Compare, want bool) {
	t.Helper()
	res, err := store.Txn(t.Context(), kv.Txn{If: []kv.Compare{owner}, Then: []kv.Op{kv.SetOp("result", nil)}})
	if err != nil || res.Succeeded != want {
		t.Errorf("a guarded transaction: %v, %v, want %v", res.Succeeded, err, want)
	}
}

func TestMutexRefuses(t *testing.T) {
	db := replkvtest.Open(t)
	s := newSession(t, db, 0)
	_, err := concurrency.NewMutex(s, "").Lock(t.Context())
	wantError(t, "no name", err, kv.ErrInvalidArgument)
	_, err = concurrency.NewMutex(s, string(make([]byte, 5000))).Lock(t.Context())
	wantError(t, "a long name", err, kv.ErrTooLarge)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = concurrency.NewMutex(s, "job").Lock(ended)
	wantError(t, "an ended ctx", err, context.Canceled)
	if kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Errorf("its outcome is %v", kv.OutcomeOf(err))
	}
	lock(t, concurrency.NewMutex(s, "job")) // nothing is in the way
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = concurrency.NewMutex(s, "job").Lock(t.Context())
	wantError(t, "a closed session", err, concurrency.ErrSessionEnded)
	if keys := keysOf(t, db, "job"); len(keys) != 0 {
		t.Errorf("left are %q", keys)
	}
}

// TestKeyDeleted: who waits, and who holds, hear that somebody has deleted their key;
// the session lives on.
func TestKeyDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		a, b := newSession(t, db, 0), newSession(t, db, 0)
		ma, mb := concurrency.NewMutex(a, "job"), concurrency.NewMutex(b, "job")
		lock(t, ma)
		waited := make(chan error)
		go func() { _, err := mb.Lock(context.Background()); waited <- err }()
		queued(t, db, "job", 2)
		synctest.Wait()
		if _, err := db.DeleteRange(t.Context(), kv.Prefix("job/")); err != nil {
			t.Fatal(err)
		}
		wantError(t, "Lock", <-waited, concurrency.ErrNotHeld)
		wantError(t, "Unlock", ma.Unlock(t.Context()), concurrency.ErrNotHeld)
		if a.Err() != nil || b.Err() != nil {
			t.Errorf("the sessions: %v, %v", a.Err(), b.Err())
		}
		lock(t, mb)
		unlock(t, mb)
	})
}

// TestFairness: the lock goes round in the order of arrival, also past those who
// have left, and the end of a lock wakes one waiter.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		counted := &counted{Store: db}
		const n = 12
		first := concurrency.NewMutex(newSession(t, db, 0), "job")
		lock(t, first)
		got := make(chan int, n)
		var all sync.WaitGroup
		leave := make([]context.CancelFunc, n)
		locks := make([]*concurrency.Mutex, n)
		for i := range n {
			var ctx context.Context
			ctx, leave[i] = context.WithCancel(context.Background())
			defer leave[i]()
			locks[i] = concurrency.NewMutex(newSession(t, counted, 0), "job")
			all.Go(func() {
				switch _, err := locks[i].Lock(ctx); {
				case err == nil:
					got <- i
				case !errors.Is(err, context.Canceled):
					t.Error(err)
				}
			})
			queued(t, db, "job", i+2)
		}
		synctest.Wait()
		leave[3]()
		leave[4]()
		queued(t, db, "job", n-1)
		synctest.Wait()
		unlock(t, first)
		for i := range n {
			if i == 3 || i == 4 {
				continue
			}
			if next := <-got; next != i {
				t.Fatalf("the lock went to %d, not %d", next, i)
			}
			synctest.Wait()
			counted.views.Store(0)
			unlock(t, locks[i])
			synctest.Wait()
			if woken := counted.views.Load(); woken > 1 {
				t.Errorf("%d waiters were woken", woken)
			}
		}
		all.Wait()
		if keys := keysOf(t, db, "job"); len(keys) != 0 {
			t.Errorf("left are %q", keys)
		}
	})
}

// TestLateEntry: an entry into the queue that is done after its Lock was given up,
// or after the lock was given up, puts nobody into the queue, and does not harm the
// next holding of the same session.
func TestLateEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		late := &late{Store: db}
		s := newSession(t, late, 0)
		m := concurrency.NewMutex(s, "job")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		late.hold(1)
		_, err := m.Lock(ctx)
		wantError(t, "Lock in doubt", err, context.Canceled)
		synctest.Wait()
		late.deliver(t)
		if keys := places(t, db, s); keys != 0 {
			t.Fatal("an entry was done after the Lock was given up")
		}

		late.hold(2) // and the third attempt succeeds
		lock(t, m)
		unlock(t, m)
		late.deliver(t)
		if keys := places(t, db, s); keys != 0 {
			t.Fatal("an entry was done after the lock was given up")
		}

		late.hold(1)
		token := lock(t, m)
		late.deliver(t)
		it, err := concurrency.Leader(t.Context(), db, "job")
		if err != nil || int64(it.CreateRevision) != int64(token) {
			t.Errorf("%v has the lock, %v; the token is %d", it, err, token)
		}
		unlock(t, m)
		if keys := places(t, db, s); keys != 0 {
			t.Error("a key is left")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if keys := keysOf(t, db, "job"); len(keys) != 0 {
			t.Errorf("left are %q", keys)
		}
	})
}

// TestDoneUnanswered: an entry that was done and not answered is the session's.
func TestDoneUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		late := &late{Store: db, atOnce: true}
		s := newSession(t, late, 0)
		m := concurrency.NewMutex(s, "job")
		late.hold(1)
		lock(t, m)
		wantOwner(t, db, m.IsOwner(), true)
		late.hold(1) // the removal
		unlock(t, m)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		late.hold(1)
		_, err := m.Lock(ctx)
		wantError(t, "Lock in doubt", err, context.Canceled)
		lock(t, m) // waits until the other is gone
		unlock(t, m)
		if places(t, db, s) != 0 {
			t.Error("a key is left")
		}
	})
}

// TestMutexUnderContention: a resource that refuses lower tokens refuses nobody, and
// nobody's update is lost.
func TestMutexUnderContention(t *testing.T) {
	everyStore(t, func(t *testing.T, store concurrency.Store) {
		var all sync.WaitGroup
		var highest concurrency.Token // the lock protects it: the race detector would tell
		const sessions, rounds = 8, 10
		for range sessions {
			m := concurrency.NewMutex(newSession(t, store, 0), "job")
			all.Go(func() {
				for range rounds {
					token, err := m.Lock(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					if token <= highest {
						t.Errorf("token %d after %d", token, highest)
					}
					highest = token
					if err := m.Unlock(context.Background()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if keys := keysOf(t, store, "job"); len(keys) != 0 {
			t.Errorf("left are %q", keys)
		}
	})
}
