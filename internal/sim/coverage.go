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

	countLeaseCalls    = "calls about leases answered"
	countSnapshotAgain = "whole snapshots sent twice"
)

// sometimes is what must have happened in a long run of many seeds: else something
// that is to be tested is not.
var sometimes = []string{
	countElections, countSnapshots, countSent, countInstalled, countLost, countTorn, countUnknown, countUnknownIf, countUnknownOn,
	countConflicts, countFlips, countRefused, countHarmless, countFailed, countReplaced, countJoined, countRemoved, countPromoted, countCompacted,
	countLocks, countSessions, countExpired, countKept, countForced, countAgain, countSnapshotAgain, countDone, countDemoted, countStalls,
}

// often is what some seeds must have shown already.
var often = []string{countDone, countUnknown, countUnknownOn, countConflicts, countElections, countSnapshots, countLost, countAgain, countRevisions}

// How many seeds must have shown what happens often, and everything that should sometimes
// happen.
const (
	SomeSeeds = 20
	ManySeeds = 200
)

// Add adds the counts of another run.
func (c Coverage) Add(other Coverage) {
	for name, n := range other {
		c[name] += n
	}
}

// Missing are the events that so many seeds should have shown, and did not.
func (c Coverage) Missing(seeds int) (missing []string) {
	var names []string
	if seeds >= SomeSeeds {
		names = append(names, often...)
	}
	if seeds >= ManySeeds {
		names = append(names, sometimes...)
		for _, h := range harms {
			names = append(names, h.name)
		}
	}
	for _, name := range names {
		if c[name] == 0 && !slices.Contains(missing, name) {
			missing = append(missing, name)
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

func (c *counters) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[name]
}

func (r *run) count(name string) { r.cover.add(name, 1) }
