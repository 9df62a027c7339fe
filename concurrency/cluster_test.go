package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

// slowCluster is one on a network that takes a millisecond, so that a lease's end at
// its holder and in the store are not one instant of virtual time.
func slowCluster(t *testing.T) *replkvtest.Cluster {
	c := replkvtest.NewCluster(t, 3)
	for i := range 3 {
		for j := range 3 {
			if i != j {
				c.Delay(i, j, time.Millisecond)
			}
		}
	}
	return c
}

// TestHolderIsGone: when the member of a holder dies or is cut off, whether it leads
// or not, the holder hears that the lock may be lost before another has it, and
// another has it once the lease has ended.
func TestHolderIsGone(t *testing.T) {
	const ttl = 5 * time.Second
	for _, leads := range []bool{false, true} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("leader %v, crash %v", leads, crash), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := slowCluster(t)
					at := c.Leader()
					if !leads {
						at = (at + 1) % 3
					}
					holder, waiter := newSession(t, c.DB(at), ttl), newSession(t, c.DB((at+1)%3), ttl)
					held := concurrency.NewMutex(holder, "job")
					first := lock(t, held)
					owner := held.IsOwner()
					next := concurrency.NewMutex(waiter, "job")
					type taken struct {
						token concurrency.Token
						at    time.Time
					}
					second := make(chan taken, 1)
					go func() {
						token, err := next.Lock(context.Background())
						if err != nil {
							t.Error(err)
						}
						second <- taken{token, time.Now()}
					}()
					queued(t, c.DB(at), "job", 2)
					time.Sleep(2 * ttl)
					began := time.Now()
					if crash {
						c.Crash(at)
					} else {
						c.Partition([]int{(at + 1) % 3, (at + 2) % 3})
					}
					<-held.Done()
					lost := time.Now()
					if lost.Sub(began) > ttl {
						t.Errorf("the holder heard of it after %v", lost.Sub(began))
					}
					got := <-second
					if !got.at.After(lost) || got.token <= first {
						t.Errorf("token %d since %v, after token %d until %v", got.token, got.at, first, lost)
					}
					// At most a TTL, an election, and what the next leader does not know of.
					if got.at.Sub(began) > 2*ttl+5*time.Second {
						t.Errorf("the next had the lock after %v", got.at.Sub(began))
					}
					wantOwner(t, c.DB((at+1)%3), owner, false)
					wantOwner(t, c.DB((at+1)%3), next.IsOwner(), true)
					if crash {
						c.Restart(at)
					}
					c.Heal()
					c.WaitReady()
					unlock(t, next)
					queued(t, c.DB((at+1)%3), "job", 0)
				})
			})
		}
	}
}

// TestElectionFaults: an observer on a member that is cut off now and then sees each
// leader, in the order of their tokens, and the last.
func TestElectionFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := slowCluster(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var all sync.WaitGroup
		var mu sync.Mutex // protects the next
		led := map[concurrency.Token]bool{}
		for i := range 3 {
			db, rnd := c.DB(i), rand.New(rand.NewPCG(7, uint64(i)))
			all.Go(func() {
				for ctx.Err() == nil {
					s, err := concurrency.NewSession(context.Background(), db, 2*time.Second)
					if err != nil {
						continue // it took RequestTimeout
					}
					e := concurrency.NewElection(s, "boss")
					if token, err := e.Campaign(ctx, nil); err == nil {
						mu.Lock()
						led[token] = true
						mu.Unlock()
						if e.Proclaim(ctx, []byte("proclaimed")) == nil {
							time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
						}
					}
					s.Close(context.Background())
				}
			})
		}
		var seen []kv.Item
		stop, stopped := context.WithCancel(context.Background())
		defer stopped()
		observed := make(chan struct{})
		go func() {
			defer close(observed)
			for it, err := range concurrency.Observe(stop, c.DB(0), "boss") {
				if err == nil {
					seen = append(seen, it)
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		}()
		for i := range 9 {
			time.Sleep(3 * time.Second)
			c.Partition([]int{(i + 1) % 3, (i + 2) % 3})
			time.Sleep(4 * time.Second)
			c.Heal()
		}
		c.WaitReady()
		cancel()
		all.Wait()
		last := concurrency.NewElection(newSession(t, c.DB(1), 0), "boss")
		campaign(t, last, "last")
		time.Sleep(time.Second)
		stopped()
		<-observed
		tokens := map[concurrency.Token]bool{}
		for i, it := range seen {
			tokens[concurrency.Token(it.CreateRevision)] = true
			if i > 0 && !follows(it, seen[i-1]) {
				t.Errorf("%+v after %+v", it, seen[i-1])
			}
		}
		for token := range led {
			if !tokens[token] {
				t.Errorf("who led by token %d was not observed", token)
			}
		}
		t.Logf("%d led, %d were observed", len(led), len(seen))
		if n := len(seen); n == 0 || string(seen[n-1].Value) != "last" || len(led) < 5 {
			t.Errorf("%d led, %d were observed", len(led), n)
		}
	})
}

// follows says whether a is a later leader than b, or a later value of the same.
func follows(a, b kv.Item) bool {
	if a.CreateRevision == b.CreateRevision {
		return a.Key == b.Key && a.ModRevision > b.ModRevision
	}
	return a.CreateRevision > b.CreateRevision
}
