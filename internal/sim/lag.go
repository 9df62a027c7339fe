package sim

import (
	"cmp"
	"time"
)

// longestLag is how many seconds a follower lags at most.
const longestLag = 20

// lag cuts a follower off until the entries that it needs are gone from the leader's
// log: it must be sent the state, and installs it over what it has. Whatever else is
// healed meanwhile, it stays cut off.
func (n *nemesis) lag() string {
	i, ok := n.victim()
	if !ok || n.lags >= 0 || n.r.plan.snapshot > 16<<10 || n.c.DB(i).Status().Role == "leader" {
		return ""
	}
	n.lags = i
	n.cutLagging()
	n.lagging(i, longestLag)
	return n.name(i)
}

// lagging looks again each second, for some tries.
func (n *nemesis) lagging(i, tries int) {
	// A leader keeps so many entries behind a snapshot, and so many bytes of them.
	enough := cmp.Or(n.r.plan.entries, 128) + 22 + uint64(n.r.plan.trailing)/100
	n.pending = append(n.pending, undo{time.Now().Add(time.Second), "", func() {
		newest, has := uint64(0), uint64(0)
		for _, j := range n.c.Up() {
			newest = max(newest, n.c.DB(j).Status().LastLogIndex)
		}
		if db := n.c.DB(i); db != nil {
			has = db.Status().LastLogIndex
		}
		if has > 0 && newest < has+enough && tries > 0 {
			n.lagging(i, tries-1)
			return
		}
		n.note("%s lags no more: it has %d of %d entries", n.c.Members[i].ID, has, newest)
		n.lags = -1
		n.c.Net.Heal()
	}})
}

// healNetwork ends all cuts but that of who lags.
func (n *nemesis) healNetwork() {
	n.c.Net.Heal()
	n.cutLagging()
}

func (n *nemesis) cutLagging() {
	if n.lags < 0 {
		return
	}
	for _, j := range n.others(n.lags) {
		n.c.Cut(n.lags, j)
		n.c.Cut(j, n.lags)
	}
}
