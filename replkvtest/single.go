package replkvtest

import (
	"context"
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/sim/cluster"
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
	t.Cleanup(func() {
		if err := cluster.CloseAndCheck(db); err != nil {
			t.Errorf("replkvtest: the store: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := db.Ready(ctx); err != nil {
		t.Fatalf("replkvtest: %v", err)
	}
	return db
}
