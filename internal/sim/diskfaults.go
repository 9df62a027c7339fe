package sim

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

func (n *nemesis) asIs(fs *disk.Mem) *disk.Mem { return fs }

// slowable are the operations that may take time once the log is open: only there no mutex is held that
// others wait for, and virtual time stands still while somebody waits for a mutex.
func slowable(o faultfs.Op) bool {
	return o.Is(faultfs.Sync, "/log/") && strings.HasSuffix(o.Path, ".log")
}

// slowDisk makes each sync of a log take long.
func (n *nemesis) slowDisk() string {
	i, ok := n.victim()
	if !ok || n.members[i].failing != nil {
		return ""
	}
	d := time.Duration(1 + n.rng.Int64N(int64(n.r.plan.election)))
	n.later(longestCut, "the disk of "+n.c.Members[i].ID+" is fast again", n.slowed(i, faultfs.Slow(d, slowable)))
	return fmt.Sprintf("%s, %v for a sync", n.name(i), d)
}

// slowed gives the disk of member i a fault that makes it slow, until well is called.
func (n *nemesis) slowed(i int, fault faultfs.Fault) (well func()) {
	v := n.members[i]
	disk := v.disk
	v.slow++
	disk.SetFault(fault)
	return func() {
		v.slow--
		if v.failing == nil {
			disk.SetFault(n.usual())
		}
	}
}

// failingDisk answers errors until the member has stopped and its machine was repaired.
// Only under the log's write-ahead log and the floor: elsewhere Pebble's goroutine is
// parked for ever with its mutex locked, and so is virtual time. Tests of replkvtest and
// store do the rest, in real time.
func (n *nemesis) failingDisk() string {
	i, ok := n.victim()
	if !ok || !n.spare() || n.members[i].failing != nil || n.members[i].disk.Crashed() {
		return ""
	}
	cause := pick[error](n.rng, syscall.EIO, syscall.ENOSPC)
	part := pick(n.rng, "log", "floor")
	fails := func(o faultfs.Op) bool {
		if part == "log" && !(strings.Contains(o.Path, "/log/") && strings.HasSuffix(o.Path, ".log")) {
			return false
		}
		return o.Is(faultfs.Write|faultfs.Syncs, "") && (part == "log" || strings.Contains(o.Path, "floor"))
	}
	n.members[i].failing, n.stranded = cause, true
	n.members[i].disk.SetFault(faultfs.Fail(cause, fails))
	n.later(longestCut, "repairs the disk of "+n.c.Members[i].ID, func() { n.repair(i) })
	return fmt.Sprintf("%s, %v in %q", n.name(i), cause, part)
}

// repair restarts a member whose disk failed, as another process: in this one the
// engine may keep its files.
func (n *nemesis) repair(i int) {
	m, v := n.c.Members[i], n.members[i]
	if m.Out || v.failing == nil {
		return
	}
	v.disk.SetFault(n.usual())
	if !m.Down {
		if err := n.c.DB(i).Err(); err != nil {
			n.r.count(countFailed)
			n.ended(i, err)
			n.note("%s had stopped: %v", m.ID, err)
		}
		n.crashNow(i)
	}
	n.open(i)
}

// flip damages a bit of a stopped member's disk, if all others have what it has
// acknowledged: what it loses must be lost by a minority only. It is replaced in the end.
func (n *nemesis) flip() string {
	i, ok := n.victim()
	if !ok || n.damaged >= 0 || n.changing || !n.spare() || !n.dispensable(i) || n.members[i].failing != nil || n.members[i].disk.Crashed() {
		return ""
	}
	m, what := n.c.Members[i], n.name(i)
	has := n.c.DB(i).Status().LastLogIndex
	n.damaged = i
	n.crashNow(i)
	n.later(time.Second, "", func() { n.flipNow(i, has, 20) })
	return what + ", " + m.ID + " is switched off for it"
}

// flipNow waits, for some tries, until the others have all up to an index.
func (n *nemesis) flipNow(i int, has uint64, tries int) {
	m := n.c.Members[i]
	for _, j := range n.others(i) {
		other := n.c.Members[j]
		if !other.Down && n.c.DB(j).Status().AppliedIndex >= has && n.c.DB(j).Err() == nil && n.members[j].failing == nil {
			continue
		}
		if tries--; tries > 0 {
			n.later(time.Second, "", func() { n.flipNow(i, has, tries) })
			return
		}
		n.damaged = -1
		n.note("no flip: %s does not have all", other.ID)
		n.open(i)
		return
	}
	name, err := n.flipIn(m.FS)
	n.note("a bit flips in %s of %s: %v", name, m.ID, err)
	n.stranded = true
	n.r.count(countFlips)
	n.open(i)
	if !m.Down {
		n.later(2*longestCut, "", func() {
			if n.c.DB(i).Err() == nil {
				n.r.count(countHarmless)
			}
			n.replace(i)
		})
	}
}

func (n *nemesis) flipIn(fs *disk.Mem) (string, error) {
	names := cluster.Files(fs, "data")
	if len(names) == 0 {
		return "", errors.New("there is no file")
	}
	name := names[n.rng.IntN(len(names))]
	b, err := readFile(fs, name)
	if err != nil {
		return name, err
	}
	b[n.rng.IntN(len(b))] ^= 1 << n.rng.IntN(8)
	return name, writeFile(fs, name, b)
}

// stepClock sets a member's clock forward or back.
func (n *nemesis) stepClock() string {
	i, ok := n.victim()
	if !ok {
		return ""
	}
	step := time.Duration(n.rng.Int64N(int64(2*time.Hour))) - time.Hour
	n.members[i].step.Add(int64(step))
	return fmt.Sprintf("%s by %v", n.name(i), step)
}
