// Package kvtest has what tests of implementations of kv.KV share: Run, the
// table that all of them obey, and Fake, a KV in memory that fails on demand.
// Tests only.
package kvtest
