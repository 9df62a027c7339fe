package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
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

// TestRemainingSurvives: when the leader dies, what was left of a lease does not
// begin anew: half the TTL is the most that it lives longer.
func TestRemainingSurvives(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of virtual time")
	}
	for _, crash := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			const ttl = time.Minute
			c := NewCluster(t, 3)
			lead := c.Leader()
			before := time.Now()
			c.leased(lead, "k", c.grant(lead, ttl))
			time.Sleep(45 * time.Second) // the log was told at 30 s and at 20 s, or a second later
			if crash {
				for i := range 3 {
					c.Crash(i)
				}
				for i := range 3 {
					c.Restart(i)
				}
			} else {
				c.Stop(lead)
			}
			by := (lead + 1) % 3
			time.Sleep(time.Until(before.Add(ttl)) - time.Millisecond)
			if !c.there(by, "k") {
				t.Fatal("the key is gone before its time")
			}
			if lived := c.ends(by, "k").Sub(before); lived > ttl+10*time.Second {
				t.Errorf("the key lived %v, its lease has %v", lived, ttl)
			}
		})
	}
}

// TestKeepAliveIsLogged: a lease that the log takes for nearly over, and that is
// kept alive, lives its whole TTL also if the leader dies right after its answer.
func TestKeepAliveIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = time.Minute
		c := NewCluster(t, 3)
		lead := c.Leader()
		id := c.grant(lead, ttl)
		c.leased(lead, "k", id)
		time.Sleep(45 * time.Second)
		by := (lead + 1) % 3
		kept := time.Now()
		if got, err := c.DB(by).KeepAliveOnce(context.Background(), id); err != nil || got != ttl {
			t.Fatalf("KeepAliveOnce: %v, %v", got, err)
		}
		c.Crash(lead)
		time.Sleep(time.Until(kept.Add(ttl)) - time.Millisecond)
		if !c.there(by, "k") {
			t.Fatal("the key is gone before its time")
		}
		c.ends(by, "k")
	})
}

// TestKeepAliveAcrossLeaders: who keeps a lease alive has it as long as a majority
// lives, and the end of ctx lets it go.
func TestKeepAliveAcrossLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 3 * time.Second
		c := NewCluster(t, 3)
		lead := c.Leader()
		by := (lead + 1) % 3
		id := c.grant(by, ttl)
		c.leased(by, "k", id)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.DB(by).KeepAlive(ctx, id) }()
		for range 6 {
			time.Sleep(ttl / 2)
			other := c.Leader()
			if other == by {
				other = (by + 1) % 3
			}
			c.Crash(other)
			time.Sleep(ttl / 2)
			c.Restart(other)
			c.WaitReady()
			if !c.there(by, "k") {
				t.Fatal("the key is gone")
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("KeepAlive: %v", err)
		}
		let := time.Now()
		if lived := c.ends(by, "k").Sub(let); lived > ttl+time.Second {
			t.Errorf("the key lived %v after it was let go", lived)
		}
	})
}

// TestCutLeaderRevokesNothing: a leader that is cut off when a lease expires
// proposes the revoke, which has no effect: the next leader had the say.
func TestCutLeaderRevokesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 2 * time.Second
		c := NewCluster(t, 3)
		old := c.Leader()
		a, b := (old+1)%3, (old+2)%3
		id := c.grant(old, ttl)
		granted := time.Now()
		c.leased(old, "k", id)
		time.Sleep(time.Until(granted.Add(ttl)) - 20*time.Millisecond)
		before := c.DB(old).Status().LastLogIndex
		c.Partition([]int{old}, []int{a, b})
		c.wait("the revoke in the old leader's log", func() bool { return c.DB(old).Status().LastLogIndex > before })
		if _, err := c.DB(a).KeepAliveOnce(context.Background(), id); err != nil {
			t.Fatalf("KeepAliveOnce at the next leader: %v", err)
		}
		kept := time.Now()
		c.Heal()
		c.WaitReady()
		time.Sleep(time.Until(kept.Add(ttl)) - time.Millisecond)
		for i := range 3 {
			if !c.there(i, "k") {
				t.Fatalf("member %d: the key is gone", i)
			}
		}
		c.ends(a, "k")
	})
}

// TestCutLeaderKeepsNothingAlive: a leader that is cut off and does not know it keeps no
// lease alive: there may be another, who lets it end.
func TestCutLeaderKeepsNothingAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		old := c.Leader()
		id := c.grant(old, time.Minute)
		keep := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			_, err := c.DB(old).KeepAliveOnce(ctx, id)
			return err
		}
		if err := keep(); err != nil {
			t.Fatal(err)
		}
		c.Partition([]int{old}, []int{(old + 1) % 3, (old + 2) % 3})
		if err := keep(); err == nil || c.DB(old).Status().Role != "leader" {
			t.Errorf("KeepAliveOnce: %v; its role is %s", err, c.DB(old).Status().Role)
		}
		c.Heal()
	})
}

// TestKeepAliveRacesExpiry: a keep-alive that succeeds is worth a TTL, one that
// fails found the lease gone, however close to the end it comes.
func TestKeepAliveRacesExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = time.Second
		c := NewCluster(t, 3)
		for i := range 3 {
			for j := range 3 {
				if i != j {
					c.Delay(i, j, time.Millisecond) // commits take time
				}
			}
		}
		lead := c.Leader()
		kept, gone := 0, 0
		for n := range 60 {
			by := n % 3
			id := c.grant(lead, ttl)
			granted := time.Now()
			c.leased(lead, "k", id)
			time.Sleep(time.Until(granted.Add(ttl)) - time.Duration(40-n)*200*time.Microsecond)
			asked := time.Now()
			_, err := c.DB(by).KeepAliveOnce(context.Background(), id)
			switch {
			case err == nil:
				kept++
				time.Sleep(time.Until(asked.Add(ttl)) - 2*time.Millisecond) // a read takes a round trip
				if !c.there(lead, "k") {
					t.Fatalf("round %d: it was kept alive, and is gone", n)
				}
				c.ends(lead, "k")
			case errors.Is(err, replkv.ErrLeaseNotFound):
				gone++
				if c.there(lead, "k") {
					t.Fatalf("round %d: the lease is gone, and its key is there", n)
				}
			default:
				t.Fatalf("round %d: %v", n, err)
			}
		}
		t.Logf("%d were kept alive, %d were gone", kept, gone)
		if kept == 0 || gone == 0 {
			t.Error("there was no race")
		}
	})
}

// TestManyLeasesExpire: while thousands of leases expire at once, writes go on.
func TestManyLeasesExpire(t *testing.T) {
	leases := 10_000
	if testing.Short() || raceDetector {
		leases = 1_000
	}
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3)
		lead := c.Leader()
		const granters = 200
		ctx := context.Background()
		began := time.Now()
		ttl := 20 * time.Second
		var all sync.WaitGroup
		for g := range granters {
			all.Go(func() {
				for n := range leases / granters {
					id, err := c.DB(g%3).Grant(ctx, ttl)
					if err == nil {
						_, err = c.DB(g%3).Set(ctx, fmt.Sprintf("leased/%d/%d", g, n), nil, replkv.WithLease(id))
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		if n := c.DB(lead).Status().Leases; n != leases {
			t.Fatalf("%d leases", n)
		}
		for i := range 3 {
			for j := range 3 {
				if i != j {
					c.Delay(i, j, time.Millisecond)
				}
			}
		}
		time.Sleep(time.Until(began.Add(ttl)) - 100*time.Millisecond)
		slowest, writes := time.Duration(0), 0
		for c.DB(lead).Status().Leases > 0 {
			before := time.Now()
			if _, err := c.DB(writes%3).Set(ctx, "other", nil); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, time.Since(before))
			writes++
			if time.Since(began) > ttl+10*time.Second {
				t.Fatalf("%d leases are left", c.DB(lead).Status().Leases)
			}
		}
		t.Logf("%d writes meanwhile, the slowest took %v; the last lease ended %v late", writes, slowest, time.Since(began)-ttl)
		if slowest > 50*time.Millisecond {
			t.Errorf("a write took %v", slowest)
		}
		if n := len(keys(t, c.DB(lead), "leased/")); n > 0 {
			t.Errorf("%d keys are left", n)
		}
	})
}

func keys(t *testing.T, db *replkv.DB, prefix string) (out []string) {
	t.Helper()
	for it, err := range db.Scan(context.Background(), replkv.Prefix(prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, it.Key)
	}
	return out
}

// TestLeasesSurvive: leases and what hangs on them are there after a crash of all
// members, and on one that was fed by a snapshot; and the end comes to all.
func TestLeasesSurvive(t *testing.T) {
	c := NewCluster(t, 3, WithConfig(smallLogs))
	ctx := t.Context()
	lead := c.Leader()
	away := (lead + 1) % 3
	missed := c.DB(lead).Status().LastLogIndex + 1
	c.Partition([]int{lead, (lead + 2) % 3})
	gone, stays := c.grant(lead, time.Hour), c.grant(lead, time.Hour)
	for i := range 300 {
		c.leased(lead, fmt.Sprintf("gone/%d", i), gone)
		c.leased(lead, fmt.Sprintf("stays/%d", i), stays)
		if _, err := c.DB(lead).Set(ctx, "fill", make([]byte, 4000)); err != nil {
			t.Fatal(err)
		}
	}
	c.wait("the logs to be cut", func() bool {
		first := func(i int) uint64 { return hook.Inspect(c.DB(i)).FirstIndex() }
		return min(first(lead), first((lead+2)%3)) > missed
	})
	c.Heal()
	c.wait("the snapshot", func() bool { return c.snapshotsInstalled(away) > 0 })
	c.WaitReady()
	for i := range 3 {
		c.Crash(i)
	}
	for i := range 3 {
		c.Restart(i)
	}
	c.WaitReady()
	for i := range 3 {
		info, err := c.DB(i).TimeToLive(ctx, gone, replkv.WithKeys())
		if err != nil || len(info.Keys) != 300 || info.TTL != time.Hour || info.Remaining > time.Hour {
			t.Fatalf("member %d: %d keys, %v of %v, %v", i, len(info.Keys), info.Remaining, info.TTL, err)
		}
	}
	if err := c.DB(away).Revoke(ctx, gone); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if n := len(keys(t, c.DB(i), "gone/")); n > 0 {
			t.Errorf("member %d: %d keys are left", i, n)
		}
		if n := len(keys(t, c.DB(i), "stays/")); n != 300 {
			t.Errorf("member %d: %d keys stayed", i, n)
		}
	}
}

// TestApplyStallEndsNoLease: leases whose keep-alives reach the leader go on while
// apply stands still for longer than their TTL, and so does KeepAlive.
func TestApplyStallEndsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Int64
		v, err := hook.Open(replkv.Config{Dir: "data"}, hook.Edges{FS: disk.NewMem(), Failpoint: func(name string) error {
			if name == "apply" {
				time.Sleep(time.Duration(slow.Load()))
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		db := v.(*replkv.DB)
		defer func() {
			if err := cluster.CloseAndCheck(db); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithCancel(context.Background())
		if err := db.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		id, err := db.Grant(ctx, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Set(ctx, "k", nil, replkv.WithLease(id)); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()
		group.Go(func() {
			if err := db.KeepAlive(ctx, id); !errors.Is(err, context.Canceled) {
				t.Errorf("KeepAlive: %v", err)
			}
		})
		time.Sleep(5 * time.Second)
		slow.Store(int64(5 * time.Second))
		group.Go(func() { db.Set(ctx, "other", nil) })
		time.Sleep(time.Second)
		slow.Store(0)
		time.Sleep(6 * time.Second)
		if _, err := db.Get(ctx, "k"); err != nil {
			t.Errorf("the key of a lease that is kept alive: %v", err)
		}
	})
}
