package replkv_test

import (
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
}
