package replkv_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/store/boltlog"
)

// TestBoltLog: a store whose log lies in bolt, reopened.
func TestBoltLog(t *testing.T) {
	cfg := replkv.Config{Dir: t.TempDir(), LogStore: func(dir string) (replkv.LogStore, error) {
		return boltlog.Open(dir, boltlog.Options{})
	}}
	for round := range 3 {
		db, err := replkv.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if rev, err := db.Set(t.Context(), "k", nil); err != nil || rev != replkv.Revision(2+round) {
			t.Errorf("round %d: revision %d, %v", round, rev, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Recovered, by the right LogStore only; and restored.
	recovered := replkv.Config{Dir: t.TempDir()}
	if _, err := replkv.Recover(t.Context(), recovered, cfg.Dir); !errors.Is(err, replkv.ErrInvalidConfig) || !strings.Contains(err.Error(), "LogStore") {
		t.Errorf("Recover with another LogStore: %v", err)
	}
	recovered.LogStore = cfg.LogStore
	info, err := replkv.Recover(t.Context(), recovered, cfg.Dir)
	if err != nil || info.Revision != 4 {
		t.Fatalf("Recover: %+v, %v", info, err)
	}
	db, err := replkv.Open(recovered)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if item, err := db.Get(t.Context(), "k"); err != nil || item.Version != 3 {
		t.Errorf("%+v, %v", item, err)
	}
}
