// Package faultfs wraps a file system for tests: it counts what happens on
// the disk, stops the world after a chosen operation, and lets operations
// fail, hang, crawl or lie.
//
// Pebble's errorfs injects errors, too, and was not enough: the file that
// ReuseForWrite returns is not wrapped (recycled write-ahead logs never
// fail), it has no hook behind an operation, so that a crash could be taken
// exactly there, and it cannot skip a Sync.
package faultfs
