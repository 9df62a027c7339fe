// Package store is replkv's state machine: a multi-version map on Pebble that
// applies the commands of internal/command and knows nothing of raft or gRPC.
//
// It is public by path only: it exports what package replkv needs and promises
// no compatibility.
//
// The way of a write: Apply takes log entries in index order, gives each
// operation its revision, writes one row per (key, revision) and one index row
// per entry, and commits them in one Pebble batch with the applied index, the
// term, the configuration and a running hash of the effects. The state has no
// write-ahead log of its own: the raft log is it. What is on disk is always a
// prefix of what was applied, since Pebble flushes memtables in order; Flush
// makes it the whole.
//
// docs/format.md has the rows byte by byte.
package store
