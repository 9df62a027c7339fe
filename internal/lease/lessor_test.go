package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/kv"
)

// fakeLog commits decisions after a while, as a log would, and tells the lessor.
type fakeLog struct {
	t      *testing.T
	l      *Lessor
	takes  time.Duration
	fail   error        // what comes next, once
	stale  bool         // decisions come too late, in another term
	rounds [][]Decision // as proposed
	at     []time.Time
	flying bool
	leases map[kv.LeaseID]Lease
}

// run runs a lessor over leases in a bubble of virtual time.
func run(t *testing.T, leases []Lease, test func(f *fakeLog)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLog{t: t, takes: 2 * time.Millisecond, leases: map[kv.LeaseID]Lease{}}
		f.l = New(f.propose)
		for _, x := range leases {
			f.leases[x.ID] = x
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); f.l.Run(ctx) }()
		defer func() {
			cancel()
			<-done
		}()
		f.l.Begin(1, leases)
		test(f)
	})
}

func (f *fakeLog) propose(_ context.Context, term uint64, ds []Decision) ([]bool, error) {
	if f.flying {
		f.t.Error("two rounds at a time")
	}
	f.flying = true
	f.rounds, f.at = append(f.rounds, ds), append(f.at, time.Now())
	time.Sleep(f.takes)
	f.flying = false
	if err := f.fail; err != nil {
		f.fail = nil
		return nil, err
	}
	done := make([]bool, len(ds))
	for i, d := range ds {
		x, there := f.leases[d.ID]
		if f.stale || !there || x.Generation != d.Generation {
			continue
		}
		done[i] = true
		if d.Revoke {
			delete(f.leases, d.ID)
		} else {
			x.Remaining = d.Remaining
			f.leases[d.ID] = x
		}
		f.l.Changed(x, !d.Revoke)
	}
	return done, nil
}

// sleep lets time pass, and all come to rest.
func (f *fakeLog) sleep(d time.Duration) {
	f.l.Term() // what was read so far, was read before
	time.Sleep(d)
	synctest.Wait()
}

// set changes what propose reads; the lessor's lock makes it seen.
func (f *fakeLog) set(change func()) {
	change()
	f.l.Term()
}

// keep asks until the answer is not pending.
func (f *fakeLog) keep(id kv.LeaseID) (State, error) {
	for {
		s, err := f.l.KeepAlive(context.Background(), 1, []kv.LeaseID{id})
		if err != nil {
			return State{}, err
		}
		if !s[0].Pending {
			return s[0], nil
		}
	}
}

func fresh(id kv.LeaseID, ttl time.Duration) Lease {
	return Lease{ID: id, Generation: uint64(id), TTL: ttl, Remaining: ttl}
}

func TestExpiry(t *testing.T) {
	run(t, []Lease{fresh(1, 5*time.Second), {ID: 2, Generation: 9, TTL: time.Minute, Remaining: 3 * time.Second}}, func(f *fakeLog) {
		began := time.Now()
		f.sleep(10 * time.Second)
		if len(f.rounds) != 2 || f.rounds[0][0] != (Decision{ID: 2, Generation: 9, Revoke: true}) || f.rounds[1][0].ID != 1 {
			t.Fatalf("rounds %v", f.rounds)
		}
		if a, b := f.at[0].Sub(began), f.at[1].Sub(began); a != 3*time.Second || b != 5*time.Second {
			t.Errorf("revoked after %v and %v", a, b)
		}
		if s, err := f.keep(1); s != (State{}) || err != nil {
			t.Errorf("a lease that has ended: %v, %v", s, err)
		}
	})
}

// A lease that is kept alive at a third of its TTL costs the log nothing.
func TestKeepAliveCostsNothing(t *testing.T) {
	run(t, []Lease{fresh(1, time.Minute)}, func(f *fakeLog) {
		for range 30 {
			f.sleep(20 * time.Second)
			if s, err := f.keep(1); err != nil || s.TTL != time.Minute || s.Remaining != time.Minute {
				t.Fatalf("%v, %v", s, err)
			}
		}
		if len(f.rounds) > 0 {
			t.Errorf("rounds %v", f.rounds)
		}
	})
}

// The log is told of what is left in the second half, and many leases together;
// who is kept alive then is answered when the log knows.
func TestTellsTheLog(t *testing.T) {
	var leases []Lease
	for i := range kv.LeaseID(100) {
		x := fresh(i+1, time.Hour)
		x.Remaining -= time.Duration(i) * time.Millisecond
		leases = append(leases, x)
	}
	run(t, leases, func(f *fakeLog) {
		began := time.Now()
		f.sleep(50 * time.Minute)
		if len(f.rounds) != 4 { // at 30, 36, 42, 48 minutes
			t.Fatalf("%d rounds", len(f.rounds))
		}
		for i, ds := range f.rounds {
			if len(ds) != 100 {
				t.Errorf("round %d is of %d leases", i, len(ds))
			}
			for _, d := range ds {
				left := time.Hour - time.Duration(d.ID-1)*time.Millisecond - f.at[i].Sub(began)
				if d.Revoke || d.Remaining != left {
					t.Errorf("round %d tells of %v, %v are left", i, d.Remaining, left)
				}
			}
		}
		before := time.Now()
		if s, err := f.keep(1); err != nil || s.TTL != time.Hour {
			t.Fatalf("%v, %v", s, err)
		}
		if time.Since(before) != f.takes || f.leases[1].Remaining != time.Hour {
			t.Errorf("answered after %v, the log has %v", time.Since(before), f.leases[1].Remaining)
		}
		// Again at half of the new TTL, not before.
		n := len(f.rounds)
		if s, err := f.keep(1); err != nil || s.TTL != time.Hour || len(f.rounds) != n {
			t.Errorf("%v, %v after %d rounds", s, err, len(f.rounds)-n)
		}
	})
}

// While the log is being told that little is left, a keep-alive waits for a
// second telling: the first may come after it.
func TestKeepAliveWhileTheLogIsTold(t *testing.T) {
	run(t, []Lease{fresh(1, time.Minute)}, func(f *fakeLog) {
		f.set(func() { f.takes = time.Second })
		f.sleep(31*time.Second + 500*time.Millisecond) // the round of 31 s is under way
		if len(f.rounds) != 1 {
			t.Fatalf("%d rounds", len(f.rounds))
		}
		if s, err := f.keep(1); err != nil || s.TTL != time.Minute {
			t.Fatalf("%v, %v", s, err)
		}
		if len(f.rounds) != 2 || f.rounds[1][0].Remaining != time.Minute || f.leases[1].Remaining != time.Minute {
			t.Errorf("rounds %v, the log has %v", f.rounds, f.leases[1].Remaining)
		}
	})
}

// Once a revoke is proposed, keep-alives wait for its outcome; also while nobody
// knows it.
func TestKeepAliveWaitsForRevoke(t *testing.T) {
	run(t, []Lease{fresh(1, 2*time.Second)}, func(f *fakeLog) {
		f.set(func() { f.takes = time.Second; f.fail = errors.New("unknown") })
		f.sleep(2*time.Second + time.Millisecond)
		if s, err := f.keep(1); err != nil || s != (State{}) {
			t.Fatalf("a lease whose revoke is under way: %v, %v", s, err)
		}
		if len(f.rounds) != 2 {
			t.Errorf("%d rounds: it was answered before the outcome was known", len(f.rounds))
		}
	})
}

// Decisions that came too late were not made.
func TestLateDecisions(t *testing.T) {
	run(t, []Lease{{ID: 1, Generation: 1, TTL: time.Minute, Remaining: 20 * time.Second}}, func(f *fakeLog) {
		f.set(func() { f.stale = true })
		for range 50 {
			if s, err := f.l.KeepAlive(context.Background(), 1, []kv.LeaseID{1}); err != nil || s[0] != (State{Pending: true}) {
				t.Errorf("answered with %v, %v: the log does not know", s, err)
			}
		}
		ended := make(chan error, 1)
		go func() {
			_, err := f.keep(1)
			ended <- err
		}()
		synctest.Wait()
		f.l.End(1)
		if err := <-ended; !errors.Is(err, kv.ErrNoLeader) {
			t.Errorf("after the end of the term: %v", err)
		}
		if _, err := f.l.Look(1, []kv.LeaseID{1}); !errors.Is(err, kv.ErrNoLeader) {
			t.Errorf("Look after the end of the term: %v", err)
		}
	})
}

// Terms that are over do not begin again, and their ends are not those of others.
func TestTerms(t *testing.T) {
	run(t, nil, func(f *fakeLog) {
		f.l.Begin(5, []Lease{fresh(1, time.Hour)})
		f.l.End(1)
		f.l.Begin(4, nil)
		f.l.Begin(5, nil)
		if s, err := f.l.Look(5, []kv.LeaseID{1}); err != nil || s[0].TTL != time.Hour {
			t.Errorf("%v, %v", s, err)
		}
		f.l.End(5)
		f.l.Changed(fresh(2, time.Hour), true)
		f.l.Begin(5, nil)
		if got := f.l.Term(); got != 0 {
			t.Errorf("term %d", got)
		}
	})
}

// An id that is granted again is another lease.
func TestGrantedAgain(t *testing.T) {
	run(t, []Lease{fresh(1, 5*time.Second)}, func(f *fakeLog) {
		f.sleep(4 * time.Second)
		again := Lease{ID: 1, Generation: 70, TTL: 5 * time.Second, Remaining: 5 * time.Second}
		f.set(func() { f.leases[1] = again })
		f.l.Changed(Lease{ID: 1}, false)
		f.l.Changed(again, true)
		f.sleep(4 * time.Second)
		if len(f.rounds) > 0 {
			t.Errorf("rounds %v", f.rounds)
		}
		f.sleep(2 * time.Second)
		if len(f.rounds) != 1 || f.rounds[0][0].Generation != 70 {
			t.Errorf("rounds %v", f.rounds)
		}
	})
}

// Rounds are bounded, and keep a distance while they revoke.
func TestRoundsAreBounded(t *testing.T) {
	var leases []Lease
	for i := range kv.LeaseID(5000) {
		x := fresh(i+1, time.Second)
		x.Keys = uint64(i % 3)
		leases = append(leases, x)
	}
	leases = append(leases, Lease{ID: 9999, TTL: time.Second, Remaining: time.Second, Keys: 100_000})
	run(t, leases, func(f *fakeLog) {
		f.sleep(3 * time.Second)
		if len(f.leases) > 0 {
			t.Errorf("%d are left", len(f.leases))
		}
		for i, ds := range f.rounds {
			work := uint64(0)
			for _, d := range ds {
				work += 1 + leases[min(int(d.ID)-1, len(leases)-1)].Keys
			}
			if work > maxWork && len(ds) > 1 {
				t.Errorf("round %d: %d leases, work %d", i, len(ds), work)
			}
			if i > 0 && f.at[i].Sub(f.at[i-1]) < f.takes+revokePause {
				t.Errorf("round %d came %v after the one before", i, f.at[i].Sub(f.at[i-1]))
			}
		}
	})
}

// A failure is no end: what was due is proposed again.
func TestFailedRound(t *testing.T) {
	run(t, []Lease{fresh(1, time.Second), {ID: 2, Generation: 2, TTL: time.Minute, Remaining: 20 * time.Second}}, func(f *fakeLog) {
		f.set(func() { f.fail = errors.New("not now") })
		f.sleep(2 * time.Second)
		if _, there := f.leases[1]; there {
			t.Error("the lease was not revoked")
		}
		f.set(func() { f.fail = errors.New("not now") })
		if s, err := f.keep(2); err != nil || s.TTL != time.Minute || f.leases[2].Remaining != time.Minute {
			t.Errorf("%v, %v; the log has %v", s, err, f.leases[2].Remaining)
		}
		if len(f.rounds) != 4 {
			t.Error(fmt.Sprint(len(f.rounds), " rounds"))
		}
	})
}

// TestResetThenTold: a lease that was kept alive is not in one entry with word that it
// runs out: the log would end with the latter, the lessor believe the former.
func TestResetThenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(nil)
		l.Begin(1, []Lease{fresh(1, time.Minute)})
		time.Sleep(30 * time.Second)
		r, _ := l.next(time.Now()) // the log is told: 30 s
		l.settle(r, []bool{true}, nil)
		if s, w, _ := l.keep(1, 1); w == nil {
			t.Fatalf("answered %v before the log knows", s)
		}
		time.Sleep(41 * time.Second) // another round is under way
		r, _ = l.next(time.Now())
		l.settle(r, []bool{true, true}[:len(r.ds)], nil)
		s, w, err := l.keep(1, 1)
		if last := r.ds[len(r.ds)-1]; w == nil && last.Remaining < s.Remaining {
			t.Errorf("answered %+v, %v, but the log says %v", s, err, last.Remaining)
		}
	})
}

// TestKeepAliveOfManyWaitsForNone: those that the log need not be told of are answered
// while it takes long to decide about one.
func TestKeepAliveOfManyWaitsForNone(t *testing.T) {
	half := fresh(2, time.Minute)
	half.Remaining = 30 * time.Second
	run(t, []Lease{fresh(1, time.Minute), half}, func(f *fakeLog) {
		f.set(func() { f.takes = time.Hour })
		s, err := f.l.KeepAlive(context.Background(), 1, []kv.LeaseID{2, 1})
		if err != nil || !s[0].Pending || s[1] != (State{TTL: time.Minute, Remaining: time.Minute}) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
