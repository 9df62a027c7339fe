package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/sim/cluster"
)

// watches run on all members, of many kinds, fast and slow, until the cluster is well
// again and each has come to the end. What each recorded is validated.
type watches struct {
	records []*record
	mirror  *mirror
	final   replkv.Revision
	wg      sync.WaitGroup
	enough  context.CancelFunc
	calm    context.CancelFunc
}

func (w *watches) begin(_ context.Context, r *run) error {
	w.records = []*record{
		{name: "all"}, {name: "all, slow, with previous", slow: true, previous: true},
		{name: "one key", in: replkv.Key("register/1"), previous: true}, {name: "puts", in: replkv.Key("register/2"), puts: true},
		{name: "a range", in: replkv.Prefix(setPrefix), slow: true}, {name: "part of a range", in: replkv.Between("account/1", "list/2"), previous: true},
		{name: "nothing", in: replkv.Prefix("none")}, {name: "wanderer", wander: true},
	}
	watching, enough := context.WithCancel(context.Background())
	busy, calm := context.WithCancel(watching)
	w.enough, w.calm = enough, calm
	for i, rec := range w.records {
		if rec.in.IsZero() {
			rec.in = replkv.All()
		}
		c := r.newClient()
		rng := r.cfg.random(streamClients*2 + uint64(i))
		w.wg.Go(func() { rec.follow(watching, busy, r, rng, c.wander) })
	}
	w.mirror = &mirror{}
	c := r.newClient()
	w.wg.Go(func() { w.mirror.follow(watching, busy, r, c) })
	return nil
}

// wander is a member to begin a watch with.
func (c *client) wander() *replkv.DB {
	c.move()
	db, _ := c.db()
	if db.Err() != nil {
		return nil
	}
	return db
}

func (w *watches) clients(r *run) (out []func(context.Context)) {
	out = append(out, func(ctx context.Context) {
		<-ctx.Done()
		w.calm()
	})
	if r.plan.history >= 0 {
		c := r.newClient()
		out = append(out, c.compact)
	}
	return out
}

// compact forgets all but some revisions, now and then.
func (c *client) compact(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(c.rng.IntN(4000))*time.Millisecond)
		db, _ := c.db()
		if rev := db.Status().Revision - replkv.Revision(c.rng.IntN(50)); rev > 1 {
			call, cancel := context.WithTimeout(ctx, c.patience())
			db.Compact(call, rev)
			cancel()
		}
	}
}

// settle writes a last revision and waits until all have come to it. A write of
// unknown outcome may still come before it.
func (w *watches) settle(ctx context.Context, r *run) {
	defer w.wg.Wait()
	defer w.enough()
	end := &Op{Kind: "end", Puts: map[string]string{"end": ""}}
	if err := r.note(end, func() (err error) {
		end.Revision, err = r.c.DB(r.c.Up()[0]).Set(ctx, "end", nil)
		return err
	}); err != nil {
		r.fail("the last write: %v", err)
		return
	}
	w.final = end.Revision
	if err := cluster.Poll(func() bool {
		for _, rec := range w.records {
			if rec.at() < w.final {
				return false
			}
		}
		return w.mirror.reached() >= w.final
	}); err != nil {
		r.fail("the watchers do not come to the end, %d: %v", w.final, err)
	}
	w.enough()
	w.wg.Wait()
	w.mirror.check(ctx, r)
	for _, i := range r.c.Up() {
		r.cover.add(countDemoted, int(r.c.DB(i).Metrics().WatchDemotions))
	}
}

// seen is what watchers of everything were told, where nobody can tell it any more.
func (w *watches) seen() map[replkv.Revision][]replkv.Event {
	events := map[replkv.Revision][]replkv.Event{}
	for _, rec := range w.records {
		if rec.in != replkv.All() || rec.puts {
			continue
		}
		for _, s := range rec.spans {
			for _, c := range s.changes {
				if !c.Progress && events[c.Revision] == nil {
					events[c.Revision] = c.Events
				}
			}
		}
	}
	return events
}

func (w *watches) check(r *run) {
	if r.past == nil {
		return
	}
	for _, rec := range w.records {
		rec.check(r, reference{r.past.events, r.past.whole()}, w.final)
	}
}

// mirror is a map that a WatchSnapshot keeps.
type mirror struct {
	mu    sync.Mutex // protects the fields below
	state map[string]replkv.Item
	at    replkv.Revision
}

func (m *mirror) reached() replkv.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *mirror) follow(ctx, busy context.Context, r *run, c *client) {
	for ; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		db := c.wander()
		if db == nil {
			continue
		}
		m.mu.Lock()
		m.state = map[string]replkv.Item{} // another member: from the beginning
		m.mu.Unlock()
		if err := m.loop(ctx, busy, db, c.rng); err != nil && db.Err() == nil && ctx.Err() == nil && !errors.Is(err, replkv.ErrNoLeader) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, replkv.ErrCompacted) {
			r.fail("WatchSnapshot: %v", err)
		}
	}
}

func (m *mirror) loop(ctx, busy context.Context, db *replkv.DB, rng *rand.Rand) error {
	for c, err := range replkv.WatchSnapshot(ctx, db, replkv.All(), replkv.WithProgress(200*time.Millisecond)) {
		if err != nil {
			return err
		}
		m.mu.Lock()
		replay(m.state, c.Events)
		m.at = c.Revision
		m.mu.Unlock()
		if rng.IntN(20) == 0 {
			pause(busy, time.Duration(rng.IntN(500))*time.Millisecond)
		}
	}
	return nil
}

// check compares the mirror with the store.
func (m *mirror) check(ctx context.Context, r *run) {
	state, err := stateAt(ctx, r.c.DB(r.c.Up()[0]), m.at)
	if errors.Is(err, replkv.ErrCompacted) {
		return
	}
	if err == nil && len(state) != len(m.state) {
		err = fmt.Errorf("it has %d keys, the store %d", len(m.state), len(state))
	}
	for key, it := range state {
		if err == nil && !same(m.state[key], it) {
			err = fmt.Errorf("it has %+v, the store %+v", m.state[key], it)
		}
	}
	if err != nil {
		r.fail("what WatchSnapshot leads to, at %d: %v", m.at, err)
	}
}

func stateAt(ctx context.Context, db *replkv.DB, rev replkv.Revision) (map[string]replkv.Item, error) {
	state := map[string]replkv.Item{}
	for item, err := range db.Scan(ctx, replkv.All(), replkv.AtRevision(rev)) {
		if err != nil {
			return nil, err
		}
		state[item.Key] = item
	}
	return state, nil
}
