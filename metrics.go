package replkv

import (
	"slices"
	"sync/atomic"
	"time"
)

// Metrics are counts since Open. They only grow.
type Metrics struct {
	Writes      uint64 // operations that were answered with success
	WriteErrors uint64 // operations that were answered with an error
	Reads       uint64 // Gets and pages of Scans
	Overloaded  uint64 // operations refused for want of room

	Batches      uint64 // of this member's session
	Entries      uint64 // proposed by this member as leader
	EntryBytes   uint64 // of them
	ReadRounds   uint64 // rounds of the read index
	TxnConflicts uint64 // runs of an Update in vain: what it had read changed
	Applied      uint64 // log entries applied
	AppliedBytes uint64 // of them

	LeaderChanges      uint64 // seen by this member
	SnapshotsTaken     uint64 // log truncations
	SnapshotsSent      uint64 // to followers, begun
	SnapshotsInstalled uint64 // received and made the state

	// WatchDemotions counts the times that a watcher was too slow for its queue and
	// went on from the history on disk: nothing is lost.
	WatchDemotions uint64

	// WriteLatency is that of operations which were answered with success: from
	// the call to the answer.
	WriteLatency Histogram
	// SyncLatency is that of appends to the log on this member's disk.
	SyncLatency Histogram
}

// Histogram counts durations in seconds. Counts[i] has those at or below
// Bounds[i] and above Bounds[i-1]; the last of Counts those above all Bounds.
type Histogram struct {
	Bounds []float64 // shared: not to be changed
	Counts []uint64
	Sum    float64 // seconds
}

// Metrics returns the counts so far. It does not block, and works on a store
// that has stopped.
func (db *DB) Metrics() Metrics {
	c := &db.counts
	return Metrics{
		Writes: c.writes.Load(), WriteErrors: c.writeErrors.Load(), Reads: c.reads.Load(), Overloaded: c.overloaded.Load(),
		Batches: c.batches.Load(), Entries: c.entries.Load(), EntryBytes: c.entryBytes.Load(), ReadRounds: c.readRounds.Load(),
		TxnConflicts: c.txnConflicts.Load(),
		Applied:      c.applied.Load(), AppliedBytes: c.appliedBytes.Load(),
		WatchDemotions: db.watches.Demotions(),
		LeaderChanges:  c.leaderChanges.Load(), SnapshotsTaken: c.snapshotsTaken.Load(), SnapshotsSent: c.snapshotsSent.Load(),
		SnapshotsInstalled: c.snapshotsInstalled.Load(),
		WriteLatency:       c.writeLatency.read(), SyncLatency: c.syncLatency.read(),
	}
}

// counts is what Metrics reads.
type counts struct {
	writes, writeErrors, reads, overloaded            atomic.Uint64
	batches, entries, entryBytes, readRounds          atomic.Uint64
	txnConflicts                                      atomic.Uint64
	applied, appliedBytes, leaderChanges              atomic.Uint64
	snapshotsTaken, snapshotsSent, snapshotsInstalled atomic.Uint64
	writeLatency, syncLatency                         latency
}

// latencyBounds are the upper bounds of the buckets, in seconds: from a write on
// one fast disk to one that waits for an election.
var latencyBounds = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// latency counts durations without a lock.
type latency struct {
	buckets [len(latencyBounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

func (l *latency) since(began time.Time) {
	d := time.Since(began)
	i, _ := slices.BinarySearch(latencyBounds[:], d.Seconds())
	l.buckets[i].Add(1)
	l.nanos.Add(int64(d))
}

func (l *latency) read() Histogram {
	h := Histogram{Bounds: latencyBounds[:], Counts: make([]uint64, len(l.buckets)), Sum: time.Duration(l.nanos.Load()).Seconds()}
	for i := range l.buckets {
		h.Counts[i] = l.buckets[i].Load()
	}
	return h
}
