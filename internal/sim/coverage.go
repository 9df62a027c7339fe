package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Coverage counts what happened in runs.
type Coverage map[string]int

// What is counted besides the nemesis's harms, which count under their names.
const (
	countElections = "elections"
	countForced    = "snapshots taken by force"
	countAgain     = "requests sent twice"
	countSnapshots = "snapshots taken"
	countSent      = "snapshots sent"
	countInstalled = "snapshots installed"
	countStalls    = "disks stalled"
	countLost      = "crashes that lost unsynced bytes"
	countTorn      = "torn tails"
	countOps       = "operations"
	countDone      = "operations done"
	countNotDone   = "operations not done"
	countUnknown   = "operations of unknown outcome"
	countUnknownIf = "conditional writes of unknown outcome"
	countUnknownOn = "unknown writes that were done"
	countConflicts = "conditions that did not hold"
	countHistories = "histories"
	countUndecided = "histories undecided"
	countRevisions = "revisions"
	countUnseen    = "revisions that nobody saw"
	countDropped   = "answers dropped"
	countSeconds   = "cluster seconds"
	countFlips     = "bits flipped"
	countRefused   = "damaged members refused"
	countHarmless  = "damaged members that found nothing missing"
	countFailed    = "members stopped by their disk"
	countReplaced  = "members replaced"
	countJoined    = "members joined"
	countRemoved   = "members removed"
	countPromoted  = "members promoted"
	countCompacted = "watches that met a compaction"
	countDemoted   = "watches demoted"
	countLocks     = "locks held"
	countSessions  = "sessions lost"
	countExpired   = "leases expired"
	countKept      = "leases kept alive"

	countSnapshotAgain = "whole snapshots sent twice"
)

// sometimes is what must have happened in a long run of many seeds: else something
// that is to be tested is not.
var sometimes = []string{
	countElections, countSnapshots, countSent, countInstalled, countLost, countTorn, countUnknown, countUnknownIf, countUnknownOn,
	countConflicts, countFlips, countRefused, countHarmless, countFailed, countReplaced, countJoined, countRemoved, countPromoted, countCompacted,
	countLocks, countSessions, countExpired, countKept, countForced, countAgain,
}

// ManySeeds is how many must have shown everything that should sometimes happen.
const ManySeeds = 200

// Add adds the counts of another run.
func (c Coverage) Add(other Coverage) {
	for name, n := range other {
		c[name] += n
	}
}

// Missing are the events that should sometimes happen and did not.
func (c Coverage) Missing() (missing []string) {
	for _, name := range sometimes {
		if c[name] == 0 {
			missing = append(missing, name)
		}
	}
	for _, h := range harms {
		if c[h.name] == 0 {
			missing = append(missing, h.name)
		}
	}
	return missing
}

func (c Coverage) String() string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(c)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s", c[name], name)
	}
	return b.String()
}

// counters are those of a run.
type counters struct {
	mu sync.Mutex // protects the field below
	by Coverage
}

func (c *counters) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[name] += n
}

func (r *run) count(name string) { r.cover.add(name, 1) }
