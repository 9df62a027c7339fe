package replkvtest

import (
	"errors"
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
	if item, err := c.DB(c.Leader()).Get(t.Context(), strings.Repeat("k", 64<<10)); err != nil || len(item.Value) != 3<<20 {
		t.Errorf("through the leader: %d bytes, %v", len(item.Value), err)
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

// TestLoweredKeyLimit: what was put under a larger one can be read and deleted.
func TestLoweredKeyLimit(t *testing.T) {
	limit := 1000
	c := NewCluster(t, 1, WithConfig(func(_ int, cfg *replkv.Config) { cfg.MaxKeyBytes = limit }))
	ctx, long := t.Context(), func(s string) string { return strings.Repeat(s, 1000) }
	for _, s := range []string{"a", "b", "c", "d", "e", "f"} {
		if _, err := c.DB(0).Set(ctx, long(s), []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	limit = 100
	c.Stop(0)
	c.Restart(0)
	c.WaitReady()
	db := c.DB(0)
	for name, put := range map[string]func() error{
		"Set": func() error { _, err := db.Set(ctx, long("a"), nil); return err },
		"Txn": func() error {
			_, err := db.Txn(ctx, replkv.Txn{Then: []replkv.Op{replkv.SetOp(long("a"), nil)}})
			return err
		},
		"Update": func() error {
			_, err := db.Update(ctx, func(tx *replkv.Tx) error { return tx.Set(long("a"), nil) })
			return err
		},
	} {
		if err := put(); !errors.Is(err, replkv.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, do := range map[string]func() error{
		"Get":     func() error { _, err := db.Get(ctx, long("a")); return err },
		"GetMany": func() error { _, err := db.GetMany(ctx, long("a")); return err },
		"Delete":  func() error { _, err := db.Delete(ctx, long("b")); return err },
		"Txn": func() error {
			_, err := db.Txn(ctx, replkv.Txn{If: []replkv.Compare{replkv.Exists(long("a"))}, Then: []replkv.Op{replkv.DeleteOp(replkv.Key(long("c")))}})
			return err
		},
		"Update": func() error {
			_, err := db.Update(ctx, func(tx *replkv.Tx) error {
				_, err := tx.Get(long("a"))
				return errors.Join(err, tx.Delete(long("d")))
			})
			return err
		},
		"DeleteRange": func() error { _, err := db.DeleteRange(ctx, replkv.Key(long("e"))); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if res, err := db.ClearRange(ctx, replkv.All()); err != nil || res.Deleted != 2 {
		t.Errorf("ClearRange: %+v, %v", res, err)
	}
}
