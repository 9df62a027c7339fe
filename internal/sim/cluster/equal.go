package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

// CheckEqual restarts members that are down, waits until all have applied the same
// entry, and compares their data, revision by revision of the newest, and the hashes
// of the effects of everything they applied.
func (c *Cluster) CheckEqual() error {
	var dbs []*replkv.DB
	for i, m := range c.Members {
		if m.Out {
			continue
		}
		if m.Down {
			if err := c.Open(i); err != nil {
				return fmt.Errorf("restart member %d: %w", i, err)
			}
		}
		if err := m.DB().Err(); err != nil {
			return fmt.Errorf("member %d has stopped: %w", i, err)
		}
		dbs = append(dbs, m.DB())
	}
	return Equal(dbs)
}

// Equal compares members of one cluster, wherever it runs. Nobody may write meanwhile.
func Equal(dbs []*replkv.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
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
	err := Poll(func() bool {
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
	err := Poll(func() bool {
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
