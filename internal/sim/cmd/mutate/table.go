package main

import "slices"

// mutants is the table, by what is broken.
var mutants = slices.Concat(ofTheLog, ofSnapshots, ofReplication, ofReads, ofSessions, ofTransactions, ofApply, ofTheSweep, ofWatches, ofLeases, ofLocks, ofMembers, ofBackups)

// What the checkers of the simulation say.
const (
	// stale: of a read that is too old, or of no one moment.
	stale = `read what was true at|not linearizable|found keys absent|had been answered`
	// gone: of a write that was acknowledged.
	gone = `acknowledged, but revision|it has lost what it had acknowledged|not linearizable`
	// twice: of a write that was done more than once.
	twice = `was written at \d+ and at \d+|read what was true at|want created at|not linearizable`
	// differ: of members that do not hold the same.
	differ = `replicas differ|tells \[.*\] of revision`
	// watched: of what watchers were told.
	watched = `not (ordered|unique|atomic|reliable|resumable|bookmarkable|filter|previous):`
)
