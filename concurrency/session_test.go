package concurrency_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

func TestSession(t *testing.T) {
	everyStore(t, func(t *testing.T, store concurrency.Store) {
		ctx := t.Context()
		s := newSession(t, store, 0)
		if info, err := store.TimeToLive(ctx, s.Lease()); err != nil || info.TTL != concurrency.DefaultTTL {
			t.Errorf("the lease is %+v, %v", info, err)
		}
		if s.Err() != nil {
			t.Error(s.Err())
		}
		if err := s.Close(ctx); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		if err := s.Err(); !errors.Is(err, concurrency.ErrSessionEnded) {
			t.Errorf("a closed session says %v", err)
		}
		if _, err := store.TimeToLive(ctx, s.Lease()); !errors.Is(err, kv.ErrLeaseNotFound) {
			t.Errorf("its lease: %v", err)
		}
		if err := s.Close(ctx); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		_, err := concurrency.NewSession(ctx, store, time.Millisecond)
		wantError(t, "a short TTL", err, kv.ErrInvalidArgument)
	})
}

// TestSessionLives: it is kept alive for many times its TTL, until ctx ends, and
// the lease ends by itself then.
func TestSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 3 * time.Second
		db := replkvtest.Open(t)
		ctx, cancel := context.WithCancel(context.Background())
		s, err := concurrency.NewSession(ctx, db, ttl)
		if err != nil {
			t.Fatal(err)
		}
		lock(t, concurrency.NewMutex(s, "job"))
		time.Sleep(10 * ttl)
		if s.Err() != nil || len(keysOf(t, db, "job")) != 1 {
			t.Fatalf("the session was lost: %v", s.Err())
		}
		cancel()
		<-s.Done()
		if err := s.Err(); !errors.Is(err, context.Canceled) || !errors.Is(err, concurrency.ErrSessionEnded) {
			t.Errorf("the session says %v", err)
		}
		if len(keysOf(t, db, "job")) != 1 {
			t.Error("the key was deleted at once")
		}
		time.Sleep(ttl + time.Second)
		if len(keysOf(t, db, "job")) != 0 {
			t.Error("the key is left")
		}
	})
}

// TestSessionLost: who waits, and who holds, hear that the lease is gone.
func TestSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		a, b := newSession(t, db, 0), newSession(t, db, 0)
		ma, mb := concurrency.NewMutex(a, "job"), concurrency.NewMutex(b, "job")
		lock(t, ma)
		waited := make(chan error)
		go func() { _, err := mb.Lock(context.Background()); waited <- err }()
		queued(t, db, "job", 2)
		synctest.Wait()
		for _, s := range []*concurrency.Session{b, a} { // long before the next keep-alives
			if err := db.Revoke(t.Context(), s.Lease()); err != nil {
				t.Fatal(err)
			}
		}
		err := <-waited
		wantError(t, "Lock", err, concurrency.ErrSessionEnded)
		wantError(t, "Lock", err, kv.ErrLeaseNotFound)
		wantOwner(t, db, ma.IsOwner(), false)
		wantError(t, "Unlock", ma.Unlock(t.Context()), concurrency.ErrSessionEnded)
		wantError(t, "a second Unlock", ma.Unlock(t.Context()), concurrency.ErrNotHeld)
		<-ma.Done()
	})
}

// slow answers keep-alives late, or not at all.
type slow struct {
	concurrency.Store
	takes time.Duration
	fails atomic.Bool
}

func (s *slow) KeepAliveOnce(ctx context.Context, id kv.LeaseID) (time.Duration, error) {
	if s.fails.Load() {
		return 0, &kv.Error{Op: "KeepAliveOnce", Err: kv.ErrNoLeader}
	}
	ttl, err := s.Store.KeepAliveOnce(ctx, id)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return 0, &kv.Error{Op: "KeepAliveOnce", Err: ctx.Err()}
	}
	return ttl, err
}

// TestLostInTime: Done is closed a TTL after the last keep-alive that succeeded was
// sent, however long its answer took.
func TestLostInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 9 * time.Second
		s := &slow{Store: replkvtest.Open(t), takes: ttl / 6}
		began := time.Now()
		session := newSession(t, s, ttl)
		time.Sleep(ttl/3 + ttl/6 + time.Second) // the first was sent after a third
		s.fails.Store(true)
		<-session.Done()
		if lived := time.Since(began); lived != ttl/3+ttl {
			t.Errorf("it ended after %v, want %v", lived, ttl/3+ttl)
		}
		began = time.Now()
		<-newSession(t, s, ttl).Done()
		if lived := time.Since(began); lived != ttl {
			t.Errorf("one that was never kept alive ended after %v", lived)
		}
	})
}

// TestStoreClosed: who waits when the store is closed hears of it, and nothing of the
// session outlives its TTL.
func TestStoreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		lock(t, concurrency.NewMutex(newSession(t, db, 0), "job"))
		s := newSession(t, db, 0)
		waited := make(chan error)
		go func() { _, err := concurrency.NewMutex(s, "job").Lock(context.Background()); waited <- err }()
		queued(t, db, "job", 2)
		synctest.Wait()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, "Lock", <-waited, kv.ErrClosed)
		<-s.Done()
	})
}

// A client that is closed ends its sessions as well.
func TestClientClosed(t *testing.T) {
	c := dial(t, replkvtest.Open(t))
	s := newSession(t, c, kv.MinLeaseTTL)
	lock(t, concurrency.NewMutex(s, "job"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	_, err := concurrency.NewSession(t.Context(), c, 0)
	wantError(t, "NewSession", err, kv.ErrClosed)
}
