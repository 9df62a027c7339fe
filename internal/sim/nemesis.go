package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// nemesis does harm, never more than a majority of members can bear: what was
// acknowledged must survive it.
type nemesis struct {
	r   *run
	c   *cluster.Cluster
	rng *rand.Rand

	members  []*victim
	pending  []undo
	lags     int         // the member that is cut off until it needs a snapshot; -1: none
	damaged  int         // the member whose disk is not to be trusted; -1: none
	stranded bool        // the engine of a failed disk may have left goroutines
	changes  chan func() // what is to be done once a change of the table has ended
	changing bool

	duplicates *duplicates
}

// victim is what the nemesis knows of a member.
type victim struct {
	disk    *faultfs.FS  // of its newest start
	step    atomic.Int64 // nanoseconds that its clock is wrong by
	failing error        // what its disk was made to fail with; nil: it was not
	slow    int          // harms by which its disk is slow or stands still: Close would give up on it
	stalls  []func()     // each ends a stall of its disk; one may begin before another is over
	ended   bool         // its damage was noticed
	eager   bool         // next time it is opened, it takes a snapshot after each kilobyte
}

// undo is the end of some harm.
type undo struct {
	at   time.Time
	what string
	do   func()
}

// harm is one kind of it. do returns what it did, "" if it could do nothing now.
type harm struct {
	name   string
	weight int // in "everything"
	do     func(n *nemesis) string
}

var harms = []harm{
	{"crash", 4, (*nemesis).crash},
	{"crash all", 1, (*nemesis).crashAll},
	{"crash at an operation", 2, (*nemesis).crashAt},
	{"restart", 1, (*nemesis).restart},
	{"partition", 2, (*nemesis).partition},
	{"cut off", 2, (*nemesis).cutOff},
	{"ring", 1, (*nemesis).ring},
	{"cut one way", 2, (*nemesis).cutOneWay},
	{"reset", 2, (*nemesis).reset},
	{"delay", 2, (*nemesis).delay},
	{"narrow", 1, (*nemesis).narrow},
	{"slow disk", 2, (*nemesis).slowDisk},
	{"failing disk", 2, (*nemesis).failingDisk},
	{"flip", 2, (*nemesis).flip},
	{"clock", 1, (*nemesis).stepClock},
	{"join", 2, (*nemesis).join},
	{"non-voter", 2, (*nemesis).addNonvoter},
	{"remove", 2, (*nemesis).remove},
	{"transfer", 2, (*nemesis).transfer},
	{"stall", 2, (*nemesis).stall},
	{"lag", 2, (*nemesis).lag},
	{"snapshots", 1, (*nemesis).snapshotOften},
	{"duplicate", 2, (*nemesis).duplicate},
}

func newNemesis(r *run) *nemesis {
	return &nemesis{r: r, c: r.c, rng: r.cfg.random(streamNemesis), damaged: -1, lags: -1, changes: make(chan func(), 1), duplicates: newDuplicates(r)}
}

// edges gives a member the disk that the nemesis can make fail, and its clock.
func (n *nemesis) edges(i int, e *hook.Edges) {
	for len(n.members) <= i {
		n.members = append(n.members, &victim{})
	}
	v := n.members[i]
	v.disk, v.failing = faultfs.New(e.FS), nil
	e.FS = v.disk
	if e.TrailingLogs = n.r.plan.entries; v.eager {
		v.eager, e.TrailingLogs = false, 0 // its log is truncated when the leader's is not yet
	}
	e.Now = func() time.Time { return time.Now().Add(time.Duration(v.step.Load())) }
}

// usual is a disk that is well: a sync takes its time, and what was written meanwhile
// may be lost.
func (n *nemesis) usual() faultfs.Fault {
	if n.r.plan.sync == 0 {
		return nil
	}
	return faultfs.Slow(n.r.plan.sync, slowable)
}

// network gives each path its delay.
func (n *nemesis) network() {
	rng := n.r.cfg.random(streamNetwork)
	for i := range n.c.Len() {
		for j := range n.c.Len() {
			if i != j {
				n.path(i, j, n.r.plan.delay/4+time.Duration(rng.Int64N(int64(n.r.plan.delay))), 0)
			}
		}
	}
}

func (n *nemesis) path(from, to int, delay, jitter time.Duration) {
	a, b := n.c.Members[from].Host(), n.c.Members[to].Host()
	n.c.Net.Delay(a, b, delay)
	n.c.Net.Jitter(a, b, jitter)
}

// run does harm until ctx ends.
func (n *nemesis) run(ctx context.Context) {
	n.duplicates.repeatStates(n.r.plan.profile.has("duplicate"))
	for {
		next := time.Now().Add(time.Duration(300+n.rng.IntN(3000)) * time.Millisecond)
		for n.wait(ctx, next) {
		}
		if ctx.Err() != nil {
			return
		}
		n.stopped()
		n.harm()
	}
}

// wait waits for the next harm, or the end of one before. False: it is time, or ctx
// has ended.
func (n *nemesis) wait(ctx context.Context, next time.Time) bool {
	at, first := next, -1
	for i, u := range n.pending {
		if u.at.Before(at) {
			at, first = u.at, i
		}
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case f := <-n.changes:
		f()
		return true
	case <-timer.C:
	}
	if first < 0 {
		return false
	}
	u := n.pending[first]
	n.pending = slices.Delete(n.pending, first, first+1)
	if u.what != "" {
		n.note("%s", u.what)
	}
	u.do()
	return true
}

func (n *nemesis) note(format string, args ...any) { n.r.log.add("nemesis", format, args...) }

// harm does one, picked by weight.
func (n *nemesis) harm() {
	sum := 0
	for _, h := range harms {
		sum += n.r.plan.profile.weight(h)
	}
	at := n.rng.IntN(sum)
	for _, h := range harms {
		if at -= n.r.plan.profile.weight(h); at < 0 {
			if what := h.do(n); what != "" {
				n.note("%s: %s", h.name, what)
				n.r.count(h.name)
			}
			n.cutLagging() // another partition replaces the one before
			return
		}
	}
}

// later ends some harm after a while, up to most.
func (n *nemesis) later(most time.Duration, what string, do func()) {
	d := 50*time.Millisecond + time.Duration(n.rng.Int64N(int64(most)))
	n.pending = append(n.pending, undo{time.Now().Add(d), what, do})
}

// victim picks a member that is up: the leader half of the time.
func (n *nemesis) victim() (int, bool) {
	up := slices.DeleteFunc(n.c.Up(), func(i int) bool { return i == n.damaged || n.c.DB(i).Err() != nil })
	if len(up) == 0 {
		return 0, false
	}
	if n.rng.IntN(2) == 0 {
		for _, i := range up {
			if n.c.DB(i).Status().Role == "leader" {
				return i, true
			}
		}
	}
	return up[n.rng.IntN(len(up))], true
}

// spare says whether one more may go down. Now and then there is no majority left.
func (n *nemesis) spare() bool {
	return len(n.c.Up())-1 > n.c.In()/2 || n.rng.IntN(8) == 0
}

func (n *nemesis) others(i int) (out []int) {
	for j, m := range n.c.Members {
		if j != i && !m.Out {
			out = append(out, j)
		}
	}
	return out
}

func (n *nemesis) name(i int) string {
	if db := n.c.DB(i); db != nil && db.Status().Role == "leader" {
		return n.c.Members[i].ID + " (leader)"
	}
	return n.c.Members[i].ID
}

// stopped looks for members that stopped by themselves: each needs a reason.
func (n *nemesis) stopped() {
	for _, i := range n.c.Up() {
		if err := n.c.DB(i).Err(); err != nil {
			n.ended(i, err)
		}
	}
}

// ended is told that member i does not run, and why.
func (n *nemesis) ended(i int, err error) {
	m, v := n.c.Members[i], n.members[i]
	switch {
	case v.disk.Crashed(): // an undo is on its way
	case v.failing != nil && !errors.Is(err, replkv.ErrRemoved): // the same
		if !errors.Is(err, v.failing) && !errors.Is(err, raftlog.ErrStalled) {
			n.r.fail("%s, whose disk fails with %v, stopped: %v", m.ID, v.failing, err)
		}
	case errors.Is(err, replkv.ErrRemoved):
		if !m.Out {
			m.Out = true
			n.r.count(countRemoved)
		}
	case n.damaged == i && !v.ended:
		v.ended = true
		n.note("%s is damaged: %v", m.ID, err)
		n.r.count(countRefused)
		if !errors.Is(err, replkv.ErrCorrupt) && !errors.Is(err, replkv.ErrFormatTooNew) && !errors.Is(err, replkv.ErrStaleIdentity) && !errors.Is(err, replkv.ErrWrongCluster) && !errors.Is(err, replkv.ErrInvalidConfig) {
			n.r.fail("%s is damaged, and says %v", m.ID, err)
		}
		if m.Down {
			n.replace(i)
		} // else that is on its way
	case n.damaged == i:
	default:
		n.r.fail("%s stopped: %v", m.ID, err)
		m.Out = true
	}
}

// open starts a member that is down.
func (n *nemesis) open(i int) {
	m := n.c.Members[i]
	if !m.Down || m.Out {
		return
	}
	if err := n.start(i); err != nil {
		n.ended(i, err)
	}
}

// start opens a member and what it has for remote clients.
func (n *nemesis) start(i int) error {
	if err := n.c.Open(i); err != nil {
		return err
	}
	n.members[i].disk.SetFault(n.usual())
	if n.r.plan.remote {
		return n.r.remotes.serve(i)
	}
	return nil
}

// heal ends all harm and waits until all is well.
func (n *nemesis) heal() error {
	n.c.Net.Heal()
	const patience = 10 * time.Minute
	for began := time.Now(); len(n.pending) > 0 || n.changing; { // one may lead to another
		if time.Since(began) > patience {
			return fmt.Errorf("not within %v", patience)
		}
		pending := n.pending
		n.pending = nil
		for _, u := range pending {
			u.do()
		}
		n.stopped()
		for i := range n.c.Members {
			if i != n.damaged {
				n.open(i)
			}
		}
		n.wait(context.Background(), time.Now().Add(100*time.Millisecond))
	}
	n.network()
	err := n.ready()
	if err != nil { // of a member that was removed, although whoever asked for it gave up
		n.stopped()
		err = n.ready()
	}
	return err
}

func (n *nemesis) ready() error {
	for i := range n.c.Members {
		n.open(i)
	}
	return n.c.Ready()
}
