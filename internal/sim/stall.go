package sim

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/replkv/replkv/store/disk/faultfs"
)

// stall does to a leader what a pause of its process does: it reaches nobody, and does
// not notice, since raft's main loop waits for a disk that does not answer. So it takes
// itself for the leader when there is another, and clients go on asking it.
func (n *nemesis) stall() string {
	i := slices.IndexFunc(n.c.Up(), func(i int) bool { return n.c.DB(i).Status().Role == "leader" })
	if i < 0 {
		return ""
	}
	i = n.c.Up()[i]
	if i == n.damaged || n.members[i].failing != nil || n.members[i].disk.Crashed() {
		return ""
	}
	// An election takes the others one and a half times the timeout, mostly.
	d := 3*n.r.plan.election + time.Duration(n.rng.Int64N(int64(n.r.plan.election)))
	what := n.name(i)
	goOn := make(chan struct{})
	end := sync.OnceFunc(func() { close(goOn) })
	n.members[i].stalls = append(n.members[i].stalls, end)
	time.AfterFunc(d, end) // whatever holds up the nemesis: a member stops when its disk takes 10 s
	well := n.slowed(i, func(o faultfs.Op) error {
		if slowable(o) {
			<-goOn
		}
		return nil
	})
	n.c.Partition([]int{i}, n.others(i))
	n.pending = append(n.pending, undo{time.Now().Add(d), what + " goes on", func() {
		n.healNetwork()
		well()
		end()
	}})
	return fmt.Sprintf("%s, for %v", what, d)
}
