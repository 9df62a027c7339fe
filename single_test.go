package replkv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"
)

func openSingle(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

func TestSingle(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	db := openSingle(t, dir)
	if err := db.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	rev, err := db.Set(ctx, "a", []byte("1"))
	if err != nil || rev != 2 {
		t.Fatalf("first Set: revision %d, %v", rev, err)
	}
	item, err := db.Get(ctx, "a")
	if err != nil || string(item.Value) != "1" || item.Version != 1 || item.CreateRevision != 2 {
		t.Fatalf("Get: %+v, %v", item, err)
	}
	if _, err := db.Set(ctx, "a", nil, IfAbsent()); !errors.Is(err, ErrConflict) || OutcomeOf(err) != OutcomeNotDone {
		t.Fatalf("Set IfAbsent on a present key: %v", err)
	}
	for i := range 2500 {
		if _, err := db.Set(ctx, fmt.Sprintf("k%05d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for item, err := range db.Scan(ctx, Prefix("k")) {
		if err != nil || item.Key != fmt.Sprintf("k%05d", n) {
			t.Fatalf("Scan item %d: %+v, %v", n, item, err)
		}
		n++
	}
	if n != 2500 {
		t.Fatalf("Scan gave %d items", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openSingle(t, dir)
	if item, err = db.Get(ctx, "k02499"); err != nil || item.ModRevision != 2502 {
		t.Fatalf("after reopening: %+v, %v", item, err)
	}
	sctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := db.Shutdown(sctx); err != nil {
		t.Fatal(err)
	}
}

// TestTheLongestTimeouts: what is added to them, or a multiple, does not make them the
// shortest.
func TestTheLongestTimeouts(t *testing.T) {
	db, err := Open(Config{Dir: t.TempDir(), RequestTimeout: math.MaxInt64, ElectionTimeout: math.MaxInt64, WriteDeadline: math.MaxInt64,
		HistoryAge: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 {
		if _, err := db.Set(context.Background(), "k", nil); err != nil {
			t.Fatalf("Set: %v", err)
		}
	}
	if _, err := db.Get(context.Background(), "k"); err != nil {
		t.Errorf("Get: %v", err)
	}
}
