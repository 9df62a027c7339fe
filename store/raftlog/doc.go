// Package raftlog keeps raft's log and its few stable values (term, vote) in
// a Pebble engine of their own, and guards raft against the errors of any
// such store.
//
// [Log] is the store: raft.LogStore, raft.StableStore and
// raft.MonotonicLogStore. What StoreLogs, Set and SetUint64 acknowledged is
// on stable storage. Entries are contiguous, carry a checksum that every read
// from disk verifies, and count the bytes before them, so that the size of
// any tail of the log is known without reading it ([Log.BytesFrom]).
//
// [Guard] stands between raft and a store, this one or another. hashicorp/raft
// panics its host when a store fails; a Guard reports the failure once and
// ends raft's goroutine instead. It also bounds how long a write may hang,
// and shortens raft's prefix truncations so that the newest bytes and what a
// follower is being fed stay in the log.
//
// A disk error is final: it is reported once through OnFatal, every later
// write answers it, and only a new Open, usually in a new process, starts
// afresh. The failed engine's goroutines and files stay until the process
// ends, because Pebble cannot be closed from there.
//
// The package is public by path only and promises no compatibility of its Go
// API; its format on disk is versioned, see docs/format.md.
package raftlog
