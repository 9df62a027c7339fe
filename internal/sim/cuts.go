package sim

import (
	"fmt"
	"time"
)

const longestCut = 6 * time.Second

func (n *nemesis) healLater() { n.later(longestCut, "heals the network", n.healNetwork) }

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
