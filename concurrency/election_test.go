package concurrency_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

func TestElection(t *testing.T) {
	everyStore(t, func(t *testing.T, store concurrency.Store) {
		ctx := t.Context()
		a, b := concurrency.NewElection(newSession(t, store, 0), "boss"), concurrency.NewElection(newSession(t, store, 0), "boss")
		_, err := a.Leader(ctx)
		wantError(t, "Leader before any", err, kv.ErrNotFound)
		wantError(t, "Proclaim of nobody", a.Proclaim(ctx, nil), concurrency.ErrNotHeld)
		wantError(t, "Resign of nobody", a.Resign(ctx), concurrency.ErrNotHeld)

		token, err := a.Campaign(ctx, []byte("a1"))
		if err != nil {
			t.Fatal(err)
		}
		wantLeader(t, b, "a1", token)
		_, err = a.Campaign(ctx, []byte("a2"))
		wantError(t, "a second Campaign", err, concurrency.ErrHeld)
		proclaim(t, a, "a3")
		wantLeader(t, b, "a3", token)
		wantOwner(t, store, a.IsOwner(), true)

		second := make(chan concurrency.Token)
		go func() {
			token, err := b.Campaign(context.Background(), []byte("b1"))
			if err != nil {
				t.Error(err)
			}
			second <- token
		}()
		queued(t, store, "boss", 2)
		wantError(t, "Proclaim of who waits", b.Proclaim(ctx, nil), concurrency.ErrNotHeld)
		wantLeader(t, b, "a3", token)
		if err := a.Resign(ctx); err != nil {
			t.Fatal(err)
		}
		next := <-second
		wantLeader(t, a, "b1", next)
		if next <= token {
			t.Errorf("token %d after %d", next, token)
		}
		wantError(t, "Proclaim of who has resigned", a.Proclaim(ctx, nil), concurrency.ErrNotHeld)
		wantOwner(t, store, a.IsOwner(), false)

		// Somebody removes the key of the leader.
		if _, err := store.DeleteRange(ctx, kv.Prefix("boss/")); err != nil {
			t.Fatal(err)
		}
		wantError(t, "Proclaim without a key", b.Proclaim(ctx, nil), concurrency.ErrNotHeld)
		wantError(t, "Resign without a key", b.Resign(ctx), concurrency.ErrNotHeld)
		_, err = concurrency.NewElection(newSession(t, store, 0), "").Campaign(ctx, nil)
		wantError(t, "no name", err, kv.ErrInvalidArgument)
		_, err = concurrency.Leader(ctx, store, "")
		wantError(t, "no name", err, kv.ErrInvalidArgument)
		for _, err := range concurrency.Observe(ctx, store, "") {
			wantError(t, "no name", err, kv.ErrInvalidArgument)
		}
	})
}

func proclaim(t *testing.T, e *concurrency.Election, value string) {
	t.Helper()
	if err := e.Proclaim(context.Background(), []byte(value)); err != nil {
		t.Error(err)
	}
}

func wantLeader(t *testing.T, e *concurrency.Election, value string, token concurrency.Token) {
	t.Helper()
	it, err := e.Leader(context.Background())
	if err != nil || string(it.Value) != value || int64(it.CreateRevision) != int64(token) {
		t.Errorf("%+v leads, %v; want %s of token %d", it, err, value, token)
	}
}

// campaign leads, which must succeed.
func campaign(t *testing.T, e *concurrency.Election, value string) {
	t.Helper()
	if _, err := e.Campaign(context.Background(), []byte(value)); err != nil {
		t.Error(err)
	}
}

// TestObserve: every leader and every value, in order, each once.
func TestObserve(t *testing.T) {
	everyStore(t, func(t *testing.T, store concurrency.Store) {
		var elections []*concurrency.Election
		for range 3 {
			elections = append(elections, concurrency.NewElection(newSession(t, store, 0), "boss"))
		}
		campaign(t, elections[0], "0")
		want, got := []string{"0"}, []string{}
		began, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for it, err := range concurrency.Observe(context.Background(), store, "boss") {
				if err != nil {
					t.Error(err)
					return
				}
				if got = append(got, string(it.Value)); len(got) == 1 {
					close(began)
				}
				if string(it.Value) == "end" {
					return
				}
			}
		}()
		<-began
		for i := range 30 {
			e, next := elections[i%3], elections[(i+1)%3]
			proclaimed, leads := fmt.Sprint("proclaimed ", i), fmt.Sprint("leads ", i)
			proclaim(t, e, proclaimed)
			var campaigned sync.WaitGroup
			campaigned.Go(func() { campaign(t, next, leads) })
			queued(t, store, "boss", 2)
			if err := e.Resign(context.Background()); err != nil {
				t.Error(err)
			}
			campaigned.Wait()
			want = append(want, proclaimed, leads)
		}
		proclaim(t, elections[0], "end")
		<-ended
		if want = append(want, "end"); !slices.Equal(got, want) {
			t.Errorf("observed\n%q, want\n%q", got, want)
		}
	})
}

// TestObserveGoesOn: after a compaction that took what was not observed yet, with who
// leads now; and until ctx ends.
func TestObserveGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := replkvtest.Open(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := concurrency.NewElection(newSession(t, db, 0), "boss")
		campaign(t, e, "first")
		n, last := 0, ""
		for it, err := range e.Observe(ctx) {
			if err != nil {
				wantError(t, "the end", err, context.Canceled)
				continue
			}
			n, last = n+1, string(it.Value)
			if last == "first" {
				// More than a watcher's queue holds, so that it reads history.
				for i := range 1000 {
					proclaim(t, e, fmt.Sprint(i))
				}
				rev, err := db.Revision(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Compact(ctx, rev); err != nil {
					t.Fatal(err)
				}
			}
			if last == "999" {
				cancel()
			}
		}
		if last != "999" || n >= 1000 {
			t.Errorf("%d were observed, the last was %q", n, last)
		}
	})
}

// TestProclaimLate: a value that comes late does not replace a later one, nor does it
// bring back who has resigned.
func TestProclaimLate(t *testing.T) {
	db := replkvtest.Open(t)
	late := &late{Store: db}
	e := concurrency.NewElection(newSession(t, late, 0), "job")
	campaign(t, e, "1")
	late.hold(1)
	wantError(t, "Proclaim in doubt", e.Proclaim(t.Context(), []byte("2")), kv.ErrOutcomeUnknown)
	proclaim(t, e, "3")
	late.deliver(t)
	if it, err := e.Leader(t.Context()); err != nil || string(it.Value) != "3" {
		t.Errorf("%+v leads, %v", it, err)
	}
	late.hold(1)
	wantError(t, "Proclaim in doubt", e.Proclaim(t.Context(), []byte("4")), kv.ErrOutcomeUnknown)
	if err := e.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	late.deliver(t)
	if _, err := e.Leader(t.Context()); err == nil {
		t.Error("somebody leads")
	}
}
