package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
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

// handles are the members as they are now: after a restart they are others.
type handles struct {
	mu  sync.Mutex // protects the field below
	dbs []*replkv.DB
}

func (h *handles) at(i int) *replkv.DB {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dbs[i]
}

func (h *handles) set(i int, db *replkv.DB) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dbs[i] = db
}

// holding is one holding of the lock, as its holder saw it.
type holding struct {
	token      concurrency.Token
	begin, end time.Time
}

// worker takes the lock again and again, with a new session when one is lost.
type worker struct {
	t       *testing.T
	members *handles
	member  int
	rnd     *rand.Rand
	db      *replkv.DB // of the session

	held     []holding
	writes   int
	sessions int
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.db = w.members.at(w.member)
		s, err := concurrency.NewSession(ctx, w.db, 2*time.Second)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		w.sessions++
		m := concurrency.NewMutex(s, "job")
		for w.once(ctx, m) {
		}
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		s.Close(closing) // if it fails the lease ends by itself
		cancel()
	}
}

// once holds the lock once. False: the session is lost.
func (w *worker) once(ctx context.Context, m *concurrency.Mutex) bool {
	wait, cancel := context.WithTimeout(ctx, time.Duration(w.rnd.IntN(3000))*time.Millisecond)
	defer cancel()
	token, err := m.Lock(wait)
	switch {
	case errors.Is(err, concurrency.ErrSessionEnded), ctx.Err() != nil, w.db.Err() != nil:
		return false
	case errors.Is(err, context.DeadlineExceeded):
		return true
	case err != nil:
		w.t.Errorf("Lock: %v", err)
		return false
	}
	h := holding{token: token, begin: time.Now()}
	w.write(ctx, m, token)
	pause := time.NewTimer(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-m.Done():
	}
	h.end = time.Now()
	w.held = append(w.held, h)
	unlocking, cancel2 := context.WithTimeout(ctx, time.Second)
	defer cancel2()
	return m.Unlock(unlocking) == nil
}

// write has the store check the token, and writes down what it protects.
func (w *worker) write(ctx context.Context, m *concurrency.Mutex, token concurrency.Token) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	set := kv.SetOp("resource", fmt.Append(nil, token))
	res, err := w.db.Txn(ctx, kv.Txn{If: []kv.Compare{m.IsOwner()}, Then: []kv.Op{set}})
	if err == nil && res.Succeeded {
		w.writes++
	}
}

// TestMutexFaults: whatever happens to members and network, no two hold the lock at
// once, as each holder knows it; tokens rise; what they guard is written in the order
// of the tokens; and when it is over nothing is left.
func TestMutexFaults(t *testing.T) {
	seeds, faults := uint64(3), 12
	if testing.Short() {
		seeds, faults = 1, 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { mutexFaults(t, seed, faults) })
		})
	}
}

func mutexFaults(t *testing.T, seed uint64, faults int) {
	c := slowCluster(t)
	members := &handles{dbs: []*replkv.DB{c.DB(0), c.DB(1), c.DB(2)}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	workers := make([]*worker, 6)
	for i := range workers {
		workers[i] = &worker{t: t, members: members, member: i % 3, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
		all.Go(func() { workers[i].run(ctx) })
	}
	rnd := rand.New(rand.NewPCG(seed, 1000))
	pause := func() { time.Sleep(time.Duration(500+rnd.IntN(4000)) * time.Millisecond) }
	for range faults {
		i := rnd.IntN(3)
		pause()
		if rnd.IntN(2) == 0 {
			c.Crash(i)
			pause()
			c.Restart(i)
			members.set(i, c.DB(i))
		} else {
			c.Partition([]int{(i + 1) % 3, (i + 2) % 3})
			pause()
			c.Heal()
		}
	}
	c.WaitReady()
	pause()
	cancel()
	all.Wait()
	checkHoldings(t, workers)
	checkWrites(t, c.DB(0))
	queued(t, c.DB(0), "job", 0)
}

func checkHoldings(t *testing.T, workers []*worker) {
	t.Helper()
	var held []holding
	writes, sessions := 0, 0
	for _, w := range workers {
		held, writes, sessions = append(held, w.held...), writes+w.writes, sessions+w.sessions
	}
	slices.SortFunc(held, func(a, b holding) int { return a.begin.Compare(b.begin) })
	for i := 1; i < len(held); i++ {
		a, b := held[i-1], held[i]
		if a.end.After(b.begin) || b.token <= a.token {
			t.Errorf("token %d from %v to %v, and token %d from %v", a.token, a.begin, a.end, b.token, b.begin)
		}
	}
	t.Logf("held %d times by %d sessions, %d writes", len(held), sessions, writes)
	if len(held) < 50 || sessions <= len(workers) || writes == 0 {
		t.Error("too little has happened")
	}
}

// checkWrites looks at all that was written to the resource.
func checkWrites(t *testing.T, db *replkv.DB) {
	t.Helper()
	rev, err := db.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for ch, err := range db.Watch(t.Context(), kv.All(), kv.FromRevision(1)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ch.Events {
			if e.Item.Key != "resource" {
				continue
			}
			var token int
			if fmt.Sscan(string(e.Item.Value), &token); token <= highest {
				t.Errorf("revision %d: token %d after %d", ch.Revision, token, highest)
			}
			highest = token
		}
		if ch.Revision >= rev {
			return
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
