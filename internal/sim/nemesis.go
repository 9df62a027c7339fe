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
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// nemesis does harm, never more than a majority of members can bear: what was
// acknowledged must survive it.
type nemesis struct {
	r   *run
	c   *cluster.Cluster
	rng *rand.Rand

	members  []*victim
	pending  []undo
	damaged  int         // the member whose disk is not to be trusted; -1: none
	stranded bool        // the engine of a failed disk may have left goroutines
	changes  chan func() // what is to be done once a change of the table has ended
	changing bool
}

// victim is what the nemesis knows of a member.
type victim struct {
	disk    *faultfs.FS  // of its newest start
	step    atomic.Int64 // nanoseconds that its clock is wrong by
	failing bool         // its disk was made to fail
	ended   bool         // its damage was noticed
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
}

func newNemesis(r *run) *nemesis {
	return &nemesis{r: r, c: r.c, rng: r.cfg.random(streamNemesis), damaged: -1, changes: make(chan func(), 1)}
}

// edges gives a member the disk that the nemesis can make fail, and its clock.
func (n *nemesis) edges(i int, e *hook.Edges) {
	for len(n.members) <= i {
		n.members = append(n.members, &victim{})
	}
	v := n.members[i]
	v.disk, v.failing = faultfs.New(e.FS), false
	e.FS = v.disk
	e.Now = func() time.Time { return time.Now().Add(time.Duration(v.step.Load())) }
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
	case v.disk.Crashed() || v.failing: // an undo is on its way
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
	if err := n.c.Open(i); err != nil {
		n.ended(i, err)
	}
}

// heal ends all harm and waits until all is well.
func (n *nemesis) heal() error {
	n.c.Net.Heal()
	for len(n.pending) > 0 || n.changing { // one may lead to another
		n.settled()
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
		pause(context.Background(), 100*time.Millisecond)
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

// crash is a power loss.
func (n *nemesis) crash() string {
	i, ok := n.victim()
	if !ok || !n.spare() {
		return ""
	}
	what := n.name(i)
	n.crashNow(i)
	n.later(6*time.Second, "restarts "+n.c.Members[i].ID, func() { n.open(i) })
	return what
}

// crashNow crashes member i, and counts what it lost.
func (n *nemesis) crashNow(i int) {
	hard, seed := n.rng.IntN(5) == 0, n.rng.Uint64()
	n.c.CrashTo(i, func(fs *disk.Mem) *disk.Mem {
		left := disk.CrashHard(fs)
		synced := logBytes(left)
		if !hard {
			left = disk.Crash(fs, seed)
		}
		n.lost(synced, logBytes(left), logBytes(fs))
		return left
	})
}

// lost counts what a crash left of the log: synced bytes, and of the others some.
func (n *nemesis) lost(synced, left, all int64) {
	if left < all {
		n.r.count(countLost)
	}
	if synced < left && left < all {
		n.r.count(countTorn)
	}
}

// logBytes is the size of the newest files of the log.
func logBytes(fs *disk.Mem) (sum int64) {
	names, err := fs.List("data/log")
	if err != nil {
		return 0
	}
	for _, name := range names {
		if info, err := fs.Stat(fs.PathJoin("data/log", name)); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// crashAll is a power loss of the whole place.
func (n *nemesis) crashAll() string {
	for _, i := range n.c.Up() {
		if i == n.damaged || n.c.DB(i).Err() != nil {
			continue // it must not lose more; or it has stopped, which needs a reason
		}
		n.crashNow(i)
		n.later(3*time.Second, "restarts "+n.c.Members[i].ID, func() { n.open(i) })
	}
	return "power is out"
}

// crashAt is a power loss right after one of the next operations of a disk.
func (n *nemesis) crashAt() string {
	i, ok := n.victim()
	if !ok || !n.spare() {
		return ""
	}
	m, v := n.c.Members[i], n.members[i]
	ops := v.disk.Ops() + n.rng.IntN(40)
	seed := n.rng.Uint64()
	var left atomic.Pointer[disk.Mem]
	fs := m.FS
	v.disk.CrashAfter(ops-v.disk.Ops(), func() {
		n.c.Net.Kill(m.Host()) // first: nothing that happens afterwards may be seen
		left.Store(disk.Crash(fs, seed))
	})
	n.later(6*time.Second, "restarts "+m.ID, func() {
		v.disk.CrashAfter(0, nil) // if it has not happened
		if m.Down || m.FS != fs {
			return // something else was first
		}
		if after := left.Load(); after != nil {
			n.lost(logBytes(disk.CrashHard(fs)), logBytes(after), logBytes(fs))
			n.c.CrashTo(i, func(*disk.Mem) *disk.Mem { return after })
		}
		n.open(i)
	})
	return fmt.Sprintf("%s, within 40 operations", n.name(i))
}

// restart is a shutdown in good order.
func (n *nemesis) restart() string {
	i, ok := n.victim()
	if !ok || !n.spare() {
		return ""
	}
	what := n.name(i)
	_ = n.c.Stop(i) // without a majority it cannot hand over
	n.later(2*time.Second, "restarts "+n.c.Members[i].ID, func() { n.open(i) })
	return what
}

const longestCut = 6 * time.Second

func (n *nemesis) healLater() { n.later(longestCut, "heals the network", n.c.Net.Heal) }

// partition splits the cluster in two.
func (n *nemesis) partition() string {
	all := n.others(-1)
	n.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	k := 1 + n.rng.IntN(len(all)-1)
	n.c.Partition(all[:k], all[k:])
	n.healLater()
	return fmt.Sprintf("%v from %v", all[:k], all[k:])
}

// cutOff isolates one.
func (n *nemesis) cutOff() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	n.c.Partition([]int{i}, n.others(i))
	n.healLater()
	return n.name(i)
}

// ring leaves each member some neighbours: each may see a majority, and no two the same.
func (n *nemesis) ring() string {
	all := n.others(-1)
	if len(all) < 4 { // a bridge: two that see only the third
		n.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	for x, i := range all {
		for y, j := range all {
			if d := (x - y + len(all)) % len(all); d > 1 && d < len(all)-1 || len(all) < 4 && x*y == 0 && x+y == 1 {
				n.c.Cut(i, j)
			}
		}
	}
	n.healLater()
	return fmt.Sprint(all)
}

// cutOneWay holds back what goes from one member to some others, or what comes.
func (n *nemesis) cutOneWay() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	out := n.rng.IntN(2) == 0
	var cut []int
	for _, j := range n.others(i) {
		if n.rng.IntN(2) == 0 {
			continue
		}
		cut = append(cut, j)
		if out {
			n.c.Cut(i, j)
		} else {
			n.c.Cut(j, i)
		}
	}
	n.healLater()
	return fmt.Sprintf("%s, outwards %v, others %v", n.name(i), out, cut)
}

// reset breaks connections.
func (n *nemesis) reset() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	for _, j := range n.others(i) {
		n.c.Net.Drop(n.c.Members[i].Host(), n.c.Members[j].Host())
	}
	return n.name(i)
}

// delay makes what one member sends and gets late, and irregular.
func (n *nemesis) delay() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	most := n.r.plan.election
	for _, j := range n.others(i) {
		n.path(i, j, time.Duration(n.rng.Int64N(int64(most/2))), time.Duration(1+n.rng.Int64N(int64(most))))
		n.path(j, i, time.Duration(n.rng.Int64N(int64(most/2))), time.Duration(1+n.rng.Int64N(int64(most))))
	}
	n.later(longestCut, "the network is fast again", n.network)
	return n.name(i)
}

// narrow gives a member a thin line.
func (n *nemesis) narrow() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	rate := 2000 + n.rng.IntN(50_000)
	set := func(rate int) {
		for _, j := range n.others(i) {
			n.c.Net.Rate(n.c.Members[i].Host(), n.c.Members[j].Host(), rate)
			n.c.Net.Rate(n.c.Members[j].Host(), n.c.Members[i].Host(), rate)
		}
	}
	set(rate)
	n.later(longestCut, "the line of "+n.c.Members[i].ID+" is wide again", func() { set(0) })
	return fmt.Sprintf("%s, %d bytes/s", n.name(i), rate)
}
