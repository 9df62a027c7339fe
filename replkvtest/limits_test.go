package replkvtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/replkv/replkv"
)

// TestMembersWithUnlikeLimits: while limits are raised on one member after the other, what
// the asked member takes is done, and what goes with it, though the leader would refuse
// it itself.
func TestMembersWithUnlikeLimits(t *testing.T) {
	raised := -1
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		cfg.MaxKeyBytes, cfg.MaxValueBytes = 100, 1<<10
		if i == raised {
			cfg.MaxKeyBytes, cfg.MaxValueBytes = 64<<10, 3<<20
		}
	}))
	raised = (c.Leader() + 1) % 3
	c.Stop(raised)
	c.Restart(raised)
	c.WaitReady()
	if c.Leader() == raised {
		t.Skip("the member with the larger limits leads")
	}
	db := c.DB(raised)
	if _, err := db.Set(t.Context(), strings.Repeat("k", 64<<10), make([]byte, 3<<20)); err != nil {
		t.Errorf("what the asked member takes: %v", err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10 {
				if w == 0 && i%3 == 0 {
					if _, err := db.Set(t.Context(), "large", make([]byte, 1<<20)); err != nil {
						t.Errorf("a large one: %v", err)
					}
				} else if _, err := db.Set(t.Context(), fmt.Sprint(w, i), []byte("small")); err != nil {
					t.Errorf("a small one: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
