package replkvtest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
)

// grant makes a lease, which must succeed.
func (c *Cluster) grant(by int, ttl time.Duration) replkv.LeaseID {
	c.t.Helper()
	id, err := c.DB(by).Grant(context.Background(), ttl)
	if err != nil {
		c.t.Fatalf("Grant: %v", err)
	}
	return id
}

// leased writes a key with a lease.
func (c *Cluster) leased(by int, key string, id replkv.LeaseID) {
	c.t.Helper()
	if _, err := c.DB(by).Set(context.Background(), key, nil, replkv.WithLease(id)); err != nil {
		c.t.Fatalf("Set %s: %v", key, err)
	}
}

// there says whether a key is.
func (c *Cluster) there(by int, key string) bool {
	c.t.Helper()
	_, err := c.DB(by).Get(context.Background(), key)
	if err != nil && !errors.Is(err, replkv.ErrNotFound) {
		c.t.Fatalf("Get %s: %v", key, err)
	}
	return err == nil
}

// ends waits until a key is gone and returns when that was.
func (c *Cluster) ends(by int, key string) time.Time {
	c.t.Helper()
	c.wait("the end of "+key, func() bool { return !c.there(by, key) })
	return time.Now()
}

// TestLeaseExpires: a key lives at least the TTL of its lease, through whichever
// member it was granted, and not much longer.
func TestLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		for by := range 3 {
			const ttl = 5 * time.Second
			before := time.Now()
			id := c.grant(by, ttl)
			c.leased((by+1)%3, "k", id)
			after := time.Now()
			time.Sleep(time.Until(before.Add(ttl)) - time.Millisecond)
			if !c.there(by, "k") {
				t.Fatalf("the key is gone %v before its time", time.Until(before.Add(ttl)))
			}
			if over := c.ends(by, "k").Sub(after) - ttl; over > 100*time.Millisecond {
				t.Errorf("the key lived %v too long", over)
			}
			if err := c.DB(by).Revoke(context.Background(), id); !errors.Is(err, replkv.ErrLeaseNotFound) {
				t.Errorf("Revoke of an expired lease: %v", err)
			}
			if _, err := c.DB(by).KeepAliveOnce(context.Background(), id); !errors.Is(err, replkv.ErrLeaseNotFound) {
				t.Errorf("KeepAliveOnce of an expired lease: %v", err)
			}
		}
	})
}
