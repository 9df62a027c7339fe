package replkv

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// watchSilence has raft look for its leader when nothing was heard of it for
// the heartbeat timeout and a little more, which differs so that members do not
// stand against each other. Left alone, raft looks at moments of its own, one to two
// timeouts apart: it notices up to three timeouts late, and a majority must
// have noticed before anybody is elected.
func (w *leaderWatch) watchSilence() {
	timeout := 10 * w.db.cfg.HeartbeatInterval
	patience := func() time.Duration { return timeout + rand.N(timeout/2) }
	limit := patience()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-w.db.ctx.Done():
			return
		case <-timer.C:
		}
		silent := time.Since(w.db.raft.LastContact())
		if id, _, self := w.db.leader(); id == "" || self {
			silent = 0 // nobody is waited for
		}
		if silent >= limit {
			w.db.lookForLeader()
			silent = 0
		}
		if silent < timeout {
			limit = patience()
		}
		timer.Reset(limit - silent)
	}
}

// lookForLeader makes raft's main loop, on a follower, compare the time of the last
// contact with the heartbeat timeout now. A shorter timeout is how raft is told
// to look; it is back before it could matter.
func (db *DB) lookForLeader() {
	c := db.raft.ReloadableConfig()
	shorter := c
	shorter.HeartbeatTimeout--
	for _, c := range []raft.ReloadableConfig{shorter, c} {
		if err := db.raft.ReloadConfig(c); err != nil {
			db.log.Error("raft's configuration", "error", err) // it was valid before
		}
	}
}
