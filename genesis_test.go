package replkv_test

import (
	"errors"
	"testing"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
)

// TestTornGenesis: a crash at any step of the first start leaves a directory
// from which the next start goes on.
func TestTornGenesis(t *testing.T) {
	torn := errors.New("torn")
	for _, point := range []string{"genesis-term", "genesis-entry", "genesis-done"} {
		for seed := range uint64(8) {
			fs := disk.NewMem()
			met := false
			_, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: fs, Failpoint: func(name string) error {
				if name == point {
					met = true
					return torn
				}
				return nil
			}})
			if !met || !errors.Is(err, torn) {
				t.Fatalf("%s: met %v, %v", point, met, err)
			}
			v, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: disk.Crash(fs, seed)})
			if err != nil {
				t.Fatalf("after a crash at %s: %v", point, err)
			}
			db := v.(*replkv.DB)
			if rev, err := db.Set(t.Context(), "k", nil); err != nil || rev != 2 {
				t.Errorf("after a crash at %s: revision %d, %v", point, rev, err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
