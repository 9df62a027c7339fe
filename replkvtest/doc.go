// Package replkvtest opens stores for tests: one member in memory (Open), or a
// cluster on an in-memory network and disks that can be partitioned and crashed
// (NewCluster). All of it is the production code, but for the disk and the
// network below it. When a test ends, it checks that the replicas hold equal
// data and that nothing of the stores is left.
//
// It also works inside a testing/synctest bubble, where waiting costs no time.
package replkvtest
