// Package sim runs whole clusters in virtual time, driven by a seed: raft, gRPC over
// connections in memory, Pebble and the raft log on disks that crash, all of it the
// production code. A nemesis does harm, workloads run, checkers judge what was
// recorded. README.md says how to run it.
//
// A seed decides on everything but the order in which goroutines that could run at
// the same moment do: a failing seed fails again often, not always.
package sim
