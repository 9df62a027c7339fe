package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
)

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
	seed := n.rng.Uint64()
	n.crashTo(i, func(fs *disk.Mem) *disk.Mem { return n.after(fs, seed) })
}

// crashTo is Cluster.CrashTo. What the dead machine's disk does is of no interest once it
// is known what is left of it; but if it stood still, Close would leave goroutines there.
func (n *nemesis) crashTo(i int, left func(*disk.Mem) *disk.Mem) {
	v := n.members[i]
	n.c.CrashTo(i, func(fs *disk.Mem) *disk.Mem {
		fs = left(fs)
		v.disk.SetFault(nil)
		for _, end := range v.stalls {
			end()
		}
		v.stalls = nil
		return fs
	})
}

// after is what a power loss leaves of a disk: what was synced, and of the rest
// nothing, or some blocks, and of a file that was being appended to any part.
func (n *nemesis) after(fs *disk.Mem, seed uint64) *disk.Mem {
	rng := rand.New(rand.NewPCG(seed, 0))
	hard := disk.CrashHard(fs)
	left := hard
	if rng.IntN(5) > 0 {
		left = disk.Crash(fs, seed)
	}
	lost := false
	for _, name := range cluster.Files(fs, "data") {
		all, synced, kept := size(fs, name), size(hard, name), size(left, name)
		if strings.HasSuffix(name, ".log") && all > synced && kept >= 0 && left != hard && rng.IntN(2) == 0 {
			kept = max(synced, 0) + rng.Int64N(all-max(synced, 0))
			b, err := readFile(fs, name)
			if err == nil {
				err = writeFile(left, name, b[:kept])
			}
			if err != nil {
				n.r.fail("tear %s: %v", name, err)
			}
			n.r.count(countTorn)
		}
		lost = lost || kept < all
	}
	if lost {
		n.r.count(countLost)
	}
	return left
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
		left.Store(n.after(fs, seed))
	})
	n.later(6*time.Second, "restarts "+m.ID, func() {
		v.disk.CrashAfter(0, nil) // if it has not happened
		if m.Down || m.FS != fs {
			return // something else was first
		}
		if after := left.Load(); after != nil {
			n.crashTo(i, func(*disk.Mem) *disk.Mem { return after })
		}
		n.open(i)
	})
	return fmt.Sprintf("%s, within 40 operations", n.name(i))
}

// restart is a shutdown in good order.
func (n *nemesis) restart() string {
	i, ok := n.victim()
	if !ok || !n.spare() || n.members[i].slow > 0 {
		return ""
	}
	what := n.name(i)
	_ = n.c.Stop(i) // without a majority it cannot hand over
	n.later(2*time.Second, "restarts "+n.c.Members[i].ID, func() { n.open(i) })
	return what
}
