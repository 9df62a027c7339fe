package sim

import (
	"time"

	"github.com/replkv/replkv"
)

// snapshotOften restarts a member, which takes a snapshot after each kilobyte until it is
// opened the next time, and keeps few bytes of its log.
func (n *nemesis) snapshotOften() string {
	i, ok := n.victim()
	if !ok || !n.spare() || n.members[i].slow > 0 {
		return ""
	}
	what := n.name(i)
	_ = n.c.Stop(i) // without a majority it cannot hand over
	n.members[i].eager = true
	n.later(time.Second, "restarts "+n.c.Members[i].ID+", which takes a snapshot after each kilobyte", func() { n.open(i) })
	return what
}

// eager changes the configuration of a member that is about to be opened.
func (n *nemesis) eager(i int, cfg *replkv.Config) {
	if i >= len(n.members) || !n.members[i].eager {
		return
	}
	cfg.SnapshotLogBytes, cfg.TrailingLogBytes = 1<<10, 1 // the least that there is
	taken := cfg.Events.SnapshotTaken
	cfg.Events.SnapshotTaken = func(e replkv.SnapshotEvent) {
		if e.Err == nil {
			n.r.count(countForced)
		}
		taken(e)
	}
}
