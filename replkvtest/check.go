package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/replkv/replkv"
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
		if m.out {
			continue
		}
		if m.down {
			if err := c.tryOpen(i); err != nil {
				return fmt.Errorf("restart member %d: %w", i, err)
			}
		}
		if err := m.db.Err(); err != nil {
			return fmt.Errorf("member %d has stopped: %w", i, err)
		}
	}
	var dbs []*replkv.DB
	for _, m := range c.members {
		if !m.out {
			dbs = append(dbs, m.db)
		}
	}
	return equal(dbs)
}

// CheckEqual fails the test unless the members, of one cluster wherever it
// runs, come to the same applied entry and hold equal data. Nobody may write
// meanwhile.
func CheckEqual(t testing.TB, dbs ...*replkv.DB) {
	t.Helper()
	if err := equal(dbs); err != nil {
		t.Errorf("replkvtest: %v", err)
	}
}

func equal(dbs []*replkv.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for i, db := range dbs {
		if err := db.Ready(ctx); err != nil {
			return fmt.Errorf("member %d does not become ready: %w", i, err)
		}
	}
	if err := sameIndex(dbs); err != nil {
		return err
	}
	if err := sameData(dbs); err != nil {
		return err
	}
	return sameLeases(dbs)
}

// sameData compares all items as of one revision.
func sameData(dbs []*replkv.DB) error {
	rev := int64(math.MaxInt64) // that all have: one may have applied the end of a lease since
	for _, db := range dbs {
		rev = min(rev, int64(db.Status().Revision))
	}
	var first [32]byte
	for i, db := range dbs {
		sum, items, err := hook.Inspect(db).HashAt(rev)
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

// sameLeases compares leases as of one entry. The leader changes them by itself.
func sameLeases(dbs []*replkv.DB) error {
	var differ error
	err := poll(func() bool {
		var at uint64
		var first [32]byte
		for i, db := range dbs {
			index, sum, err := hook.Inspect(db).HashLeases()
			if err != nil {
				differ = fmt.Errorf("hash of the leases of member %d: %w", i, err)
				return true
			}
			if i == 0 {
				at, first = index, sum
			}
			if index != at {
				return false
			}
			if sum != first {
				differ = fmt.Errorf("replicas differ: members 0 and %d hold different leases at entry %d", i, at)
			}
		}
		return true
	})
	return errors.Join(differ, err)
}

// sameIndex waits for equal applied indexes and compares the chains there.
func sameIndex(dbs []*replkv.DB) error {
	var differ error
	err := poll(func() bool {
		at, chain := hook.Inspect(dbs[0]).Chain()
		for i, db := range dbs[1:] {
			index, other := hook.Inspect(db).Chain()
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
