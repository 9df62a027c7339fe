package metrics

import "github.com/replkv/replkv"

// counterFamily is a count since the store was opened.
type counterFamily struct {
	name, help string
	read       func(*replkv.Metrics) uint64
}

var counterFamilies = []counterFamily{
	{"replkv_writes_total", "Operations that were answered with success.", func(m *replkv.Metrics) uint64 { return m.Writes }},
	{"replkv_write_errors_total", "Operations that were answered with an error.", func(m *replkv.Metrics) uint64 { return m.WriteErrors }},
	{"replkv_reads_total", "Gets and pages of scans.", func(m *replkv.Metrics) uint64 { return m.Reads }},
	{"replkv_overloaded_total", "Operations refused for want of room.", func(m *replkv.Metrics) uint64 { return m.Overloaded }},
	{"replkv_batches_total", "Batches of the member's own writes.", func(m *replkv.Metrics) uint64 { return m.Batches }},
	{"replkv_proposed_entries_total", "Log entries proposed as leader.", func(m *replkv.Metrics) uint64 { return m.Entries }},
	{"replkv_proposed_bytes_total", "Bytes of log entries proposed as leader.", func(m *replkv.Metrics) uint64 { return m.EntryBytes }},
	{"replkv_read_rounds_total", "Rounds in which the leader was confirmed for linearizable reads.",
		func(m *replkv.Metrics) uint64 { return m.ReadRounds }},
	{"replkv_update_conflicts_total", "Runs of an Update in vain: what it had read had changed.",
		func(m *replkv.Metrics) uint64 { return m.TxnConflicts }},
	{"replkv_applied_entries_total", "Log entries applied.", func(m *replkv.Metrics) uint64 { return m.Applied }},
	{"replkv_applied_bytes_total", "Bytes of log entries applied.", func(m *replkv.Metrics) uint64 { return m.AppliedBytes }},
	{"replkv_leader_changes_total", "Changes of leader that the member saw.", func(m *replkv.Metrics) uint64 { return m.LeaderChanges }},
	{"replkv_snapshots_taken_total", "Snapshots that truncated the log.", func(m *replkv.Metrics) uint64 { return m.SnapshotsTaken }},
	{"replkv_snapshots_sent_total", "Snapshots whose sending to a peer began.", func(m *replkv.Metrics) uint64 { return m.SnapshotsSent }},
	{"replkv_snapshots_installed_total", "Snapshots received that became the state.",
		func(m *replkv.Metrics) uint64 { return m.SnapshotsInstalled }},
	{"replkv_watch_demotions_total", "Times that a watcher was too slow for its queue and went on from the history on disk.",
		func(m *replkv.Metrics) uint64 { return m.WatchDemotions }},
}

// histogramFamily is a distribution of durations since the store was opened.
type histogramFamily struct {
	name, help string
	read       func(*replkv.Metrics) replkv.Histogram
}

var histogramFamilies = []histogramFamily{
	{"replkv_write_duration_seconds", "Time from the call to the answer of operations that succeeded.",
		func(m *replkv.Metrics) replkv.Histogram { return m.WriteLatency }},
	{"replkv_log_sync_duration_seconds", "Time that appends to the log took on the member's disk.",
		func(m *replkv.Metrics) replkv.Histogram { return m.SyncLatency }},
}
