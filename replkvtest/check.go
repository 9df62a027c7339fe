package replkvtest

import (
	"context"
	"fmt"

	"github.com/replkv/replkv/internal/hook"
)

// finish is what every test of a cluster ends with.
func (c *Cluster) finish() {
	c.t.Helper()
	c.net.Heal()
	if err := c.CheckEqual(); err != nil && !c.planted {
		c.t.Errorf("replkvtest: %v", err)
	}
	for i, m := range c.members {
		if m.db != nil {
			closeAndCheck(c.t, m.db, fmt.Sprintf("member %d", i))
		}
	}
	if err := poll(func() bool { return c.net.Conns() == 0 }); err != nil {
		c.t.Errorf("replkvtest: %d connections are left", c.net.Conns())
	}
}

// CheckEqual restarts members that are down, waits until all have applied the
// same entry, and compares their data, revision by revision of the newest, and
// the hashes of the effects of everything they applied.
func (c *Cluster) CheckEqual() error {
	for i, m := range c.members {
		if m.down {
			if err := c.tryOpen(i); err != nil {
				return fmt.Errorf("restart member %d: %w", i, err)
			}
		}
		if err := m.db.Err(); err != nil {
			return fmt.Errorf("member %d has stopped: %w", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i, m := range c.members {
		if err := m.db.Ready(ctx); err != nil {
			return fmt.Errorf("member %d does not become ready: %w", i, err)
		}
	}
	if err := c.sameIndex(); err != nil {
		return err
	}
	var first [32]byte
	for i, m := range c.members {
		sum, items, err := hook.Inspect(m.db).HashAt(int64(m.db.Status().Revision))
		if err != nil {
			return fmt.Errorf("hash of member %d: %w", i, err)
		}
		if i == 0 {
			first = sum
		} else if sum != first {
			return fmt.Errorf("replicas differ: members 0 and %d hold different data (%d items)", i, items)
		}
	}
	return nil
}

// sameIndex waits for equal applied indexes and compares the chains there.
func (c *Cluster) sameIndex() error {
	var differ error
	err := poll(func() bool {
		at, chain := hook.Inspect(c.members[0].db).Chain()
		for i, m := range c.members[1:] {
			index, other := hook.Inspect(m.db).Chain()
			if index != at {
				return false
			}
			if other != chain {
				differ = fmt.Errorf("replicas differ: entry %d had other effects on member %d than on member 0", at, i+1)
			}
		}
		return true
	})
	if differ != nil {
		return differ
	}
	if err != nil {
		return fmt.Errorf("members do not come to the same applied index: %w", err)
	}
	return nil
}
