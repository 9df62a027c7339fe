package sim

import "time"

const (
	// lagEntries is more than a leader keeps of its log behind a snapshot: 128 entries, and
	// plan.trailing.
	lagEntries = 250
	longestLag = 20 // seconds
)

// lag cuts a follower off until the entries that it needs are gone from the leader's
// log: it must be sent the state, and installs it over what it has.
func (n *nemesis) lag() string {
	i, ok := n.victim()
	if !ok || n.r.plan.snapshot > 1<<20 || n.c.DB(i).Status().Role == "leader" {
		return ""
	}
	n.c.Partition([]int{i}, n.others(i))
	n.lagging(i, longestLag)
	return n.name(i)
}

// lagging looks again each second, for some tries.
func (n *nemesis) lagging(i, tries int) {
	n.pending = append(n.pending, undo{time.Now().Add(time.Second), "", func() {
		newest, has := uint64(0), uint64(0)
		for _, j := range n.c.Up() {
			newest = max(newest, n.c.DB(j).Status().LastLogIndex)
		}
		if db := n.c.DB(i); db != nil {
			has = db.Status().LastLogIndex
		}
		if has > 0 && newest < has+lagEntries && tries > 0 {
			n.lagging(i, tries-1)
			return
		}
		n.note("heals the network: %s has %d of %d entries", n.c.Members[i].ID, has, newest)
		n.c.Net.Heal()
	}})
}
