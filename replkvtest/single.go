package replkvtest

import (
	"context"
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// Open returns a store of one member in memory, ready for use. It is closed
// when the test ends.
func Open(t testing.TB) *replkv.DB {
	t.Helper()
	v, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: disk.NewMem()})
	if err != nil {
		t.Fatalf("replkvtest: %v", err)
	}
	db := v.(*replkv.DB)
	t.Cleanup(func() { closeAndCheck(t, db, "the store") })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := db.Ready(ctx); err != nil {
		t.Fatalf("replkvtest: %v", err)
	}
	return db
}

// closeAndCheck closes db and checks that nothing of it is left.
func closeAndCheck(t testing.TB, db *replkv.DB, who string) {
	t.Helper()
	stopped := db.Err()
	if err := db.Close(); err != nil {
		t.Errorf("replkvtest: closing %s: %v", who, err)
	}
	if left := hook.Inspect(db).Leaks(); left != "" && stopped == nil {
		t.Errorf("replkvtest: %s left behind: %s", who, left)
	}
}
