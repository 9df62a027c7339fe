package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replkv/replkv"
)

// load writes through all members that are up, until it is stopped, and
// remembers what was acknowledged.
type load struct {
	c    *Cluster
	mu   sync.RWMutex // held for writing while members change
	n    atomic.Int64 // keys acknowledged
	stop context.CancelFunc
	wg   sync.WaitGroup
	mine [8]int // keys acknowledged by each writer, all from 0 on
}

func startLoad(c *Cluster) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{c: c, stop: cancel}
	for w := range l.mine {
		l.wg.Go(func() { l.write(ctx, w) })
	}
	return l
}

func (l *load) write(ctx context.Context, w int) {
	rng := rand.New(rand.NewPCG(1, uint64(w)))
	for ctx.Err() == nil {
		l.mu.RLock()
		db := l.c.DB(rng.IntN(len(l.c.in.Members)))
		l.mu.RUnlock()
		wctx, cancel := context.WithTimeout(ctx, time.Second)
		_, err := db.Set(wctx, fmt.Sprintf("w%d/%06d", w, l.mine[w]), []byte("v"))
		cancel()
		if err != nil {
			pauseFor(ctx, 5*time.Millisecond)
			continue
		}
		l.mine[w]++
		l.n.Add(1)
	}
}

// passes waits until so many more writes were acknowledged.
func (l *load) passes(more int64) {
	l.c.t.Helper()
	want := l.n.Load() + more
	l.c.wait("writes to go on", func() bool { return l.n.Load() >= want })
}

// finish stops the load and demands every acknowledged key of every member.
func (l *load) finish() {
	l.c.t.Helper()
	l.stop()
	l.wg.Wait()
	l.c.WaitReady()
	for i, m := range l.c.in.Members {
		if m.Out || m.Down {
			continue
		}
		have := map[string]bool{}
		for item, err := range m.DB().Scan(context.Background(), replkv.All()) {
			if err != nil {
				l.c.t.Fatal(err)
			}
			have[item.Key] = true
		}
		for w, n := range l.mine {
			for k := range n {
				if key := fmt.Sprintf("w%d/%06d", w, k); !have[key] {
					l.c.t.Fatalf("member %d lacks %s, which was acknowledged", i, key)
				}
			}
		}
	}
	l.c.t.Logf("%d acknowledged writes", l.n.Load())
}

func (c *Cluster) voter(by, i int) bool {
	m, ok := c.tableBy(by).Find(c.in.Members[i].ID)
	return ok && !m.Nonvoter
}

func (c *Cluster) tableBy(by int) replkv.Membership {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	m, err := c.DB(by).Members(ctx)
	if err != nil {
		c.t.Fatalf("Members: %v", err)
	}
	return m
}

// TestMembershipUnderLoad: a member joins and is promoted, one of the first is
// removed, leadership is transferred, all restart on new addresses at once,
// while writes go on; nothing acknowledged is lost.
func TestMembershipUnderLoad(t *testing.T) {
	told := true // where the others are
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		smallLogs(i, cfg)
		if !told {
			cfg.InitialCluster, cfg.Join = nil, nil
		}
	}))
	l := startLoad(c)
	l.passes(200)

	l.mu.Lock()
	n := c.Join()
	l.mu.Unlock()
	c.wait("the joiner to be a voter", func() bool { return c.voter(0, n) })
	c.WaitReady()
	l.passes(200)

	// One of the first, the leader: it hands over first.
	old := c.Leader()
	if old == n { // a slow machine elects whomever it likes
		old = 0
	}
	c.Remove((old+1)%3, old)
	l.passes(200)
	if m := c.tableBy(n); len(m.Members) != 3 || m.Voters() != 3 {
		t.Fatalf("%+v", m)
	}

	from := c.Leader()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := c.DB(from).TransferLeadership(ctx, c.in.Members[n].ID); from != n && err != nil {
		t.Fatal(err)
	}
	c.wait("the new leader", func() bool { return c.Leader() == n })
	l.passes(200)

	if !raceDetector {
		l.moveAll(n)
	}
	// Without InitialCluster and Join: the table has it all.
	told = false
	for i, m := range c.in.Members {
		if !m.Out {
			l.mu.Lock()
			c.Crash(i)
			c.Restart(i)
			l.mu.Unlock()
			c.WaitReady()
		}
	}
	l.passes(200)
	l.finish()
}

// moveAll restarts all members on new addresses at once, and waits until the
// table has them.
func (l *load) moveAll(by int) {
	c := l.c
	l.mu.Lock()
	for i, m := range c.in.Members {
		if !m.Out {
			c.Stop(i)
			c.Move(i, fmt.Sprintf("elsewhere%d:7", i))
		}
	}
	for i, m := range c.in.Members {
		if !m.Out {
			c.Restart(i)
		}
	}
	l.mu.Unlock()
	c.WaitReady()
	l.passes(200)
	c.wait("the table to have the new addresses", func() bool {
		for i, m := range c.in.Members {
			if row, _ := c.tableBy(by).Find(c.in.Members[i].ID); !m.Out && row.Addr != c.in.Members[i].Addr {
				return false
			}
		}
		return true
	})
}

// TestNonvoterIsNoQuorum: a change that leaves no quorum of voters is refused, also if a
// member that does not vote would make up for it.
func TestNonvoterIsNoQuorum(t *testing.T) {
	c := NewCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	i := c.add()
	m := c.in.Members[i]
	if _, err := c.DB(0).AddNonvoter(ctx, m.ID, m.Addr); err != nil {
		t.Fatal(err)
	}
	c.open(i)
	c.WaitReady()
	leader := c.Leader()
	down, gone := (leader+1)%3, (leader+2)%3
	c.Crash(down)
	_, err := c.DB(leader).Remove(ctx, c.in.Members[gone].ID) // {leader, down} would be left, and the non-voter
	if !errors.Is(err, replkv.ErrUnsafeChange) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
		t.Errorf("Remove: %v (outcome %v)", err, replkv.OutcomeOf(err))
	}
	if table := c.tableBy(leader); len(table.Members) != 4 || table.Voters() != 3 {
		t.Errorf("%+v", table)
	}
}

// TestUnsafeChanges: a change that would lose the quorum, or make a voter of
// whom nobody reaches, is refused with the reason, and nothing is done.
func TestUnsafeChanges(t *testing.T) {
	c := NewCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	leader := c.Leader()
	a, b := (leader+1)%3, (leader+2)%3
	before := c.tableBy(leader)
	refused := func(want error, do func(ctx context.Context, db *replkv.DB) error) {
		t.Helper()
		for _, i := range []int{leader, b} { // on the leader and forwarded
			if c.in.Members[i].Down {
				continue
			}
			sctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := do(sctx, c.DB(i))
			cancel()
			if !errors.Is(err, want) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
				t.Errorf("member %d: %v (outcome %v), want %v", i, err, replkv.OutcomeOf(err), want)
			}
		}
	}
	c.Crash(a)
	refused(replkv.ErrUnsafeChange, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.Remove(ctx, c.in.Members[b].ID) // {leader, a} remain, a is down
		return err
	})
	refused(replkv.ErrUnsafeChange, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.Remove(ctx, c.in.Members[leader].ID)
		return err
	})
	refused(replkv.ErrUnsafeChange, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.AddVoter(ctx, "m9", "m9:1") // nobody there
		return err
	})
	refused(replkv.ErrMemberNotFound, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.Remove(ctx, "m9")
		return err
	})
	refused(replkv.ErrConflict, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.Remove(ctx, c.in.Members[a].ID, replkv.IfMembership(before.Index+1))
		return err
	})
	refused(replkv.ErrConflict, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.AddNonvoter(ctx, "m9", c.in.Members[a].Addr)
		return err
	})
	refused(replkv.ErrInvalidArgument, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.AddNonvoter(ctx, "M9", "m9:1")
		return err
	})
	refused(replkv.ErrInvalidArgument, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.AddNonvoter(ctx, "m9", "0.0.0.0:1")
		return err
	})
	err := c.DB(leader).TransferLeadership(ctx, c.in.Members[a].ID)
	if !errors.Is(err, replkv.ErrUnsafeChange) || replkv.OutcomeOf(err) != replkv.OutcomeUnknown { // it may have been told to stand
		t.Errorf("%v (outcome %v)", err, replkv.OutcomeOf(err))
	}
	if after := c.tableBy(leader); after.Index != before.Index || len(after.Members) != 3 {
		t.Fatalf("%+v, was %+v", after, before)
	}

	// The dead one may go, and a non-voter that never runs does no harm.
	if _, err := c.DB(b).Remove(ctx, c.in.Members[a].ID, replkv.IfMembership(before.Index)); err != nil {
		t.Fatal(err)
	}
	c.in.Members[a].Out = true
	m, err := c.DB(b).AddNonvoter(ctx, "m9", "m9:1")
	if x, in := m.Find("m9"); err != nil || !in || !x.Nonvoter {
		t.Fatalf("%+v, %v", m, err)
	}
	refused(replkv.ErrUnsafeChange, func(ctx context.Context, db *replkv.DB) error {
		_, err := db.Promote(ctx, "m9")
		return err
	})
	if _, err := c.DB(b).Remove(ctx, "m9"); err != nil {
		t.Fatal(err)
	}
}

// TestAddVoter: an operator adds a member that waits for it; also one that was
// added as a non-voter before it ran, which stays one until it is promoted.
func TestAddVoter(t *testing.T) {
	c := NewCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	i := c.add()
	if _, err := c.DB(0).AddNonvoter(ctx, c.in.Members[i].ID, c.in.Members[i].Addr); err != nil {
		t.Fatal(err)
	}
	c.open(i)
	if err := c.DB(i).Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DB(i).Set(ctx, "through a non-voter", nil); err != nil {
		t.Fatal(err)
	}
	if c.voter(1, i) {
		t.Fatal("a non-voter became a voter by itself")
	}
	if m, err := c.DB(i).Promote(ctx, c.in.Members[i].ID); err != nil || m.Voters() != 4 {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err := c.DB(1).AddVoter(ctx, c.in.Members[i].ID, c.in.Members[i].Addr); err != nil || m.Voters() != 4 { // it is one
		t.Fatalf("%+v, %v", m, err)
	}
	c.Remove(1, i)
}
