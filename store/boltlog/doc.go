// Package boltlog keeps raft's log and its few stable values in one bolt file,
// by hashicorp/raft-boltdb/v2. It is the alternative to package raftlog, with
// the same contract and the same conformance suite.
//
// Choose it for members that write little, where one file, and tools that
// operators of Consul, Vault or Nomad know, count for more than speed:
// `bbolt check raft.db`, or any reader of raft-boltdb files. Choose raftlog
// otherwise. Entries of 300 bytes a second, each call of StoreLogs synced, on a
// virtual machine of two cores, in logs that begin empty (BenchmarkStoreLogs):
//
//	entries per call    boltlog      raftlog
//	               1      2,500        3,100
//	              16     35,000       62,000
//	              64     81,000      211,000
//	             256    150,000      651,000
//	            1024    170,000    1,302,000
//
// The longer the log, the larger the distance, since bolt writes whole pages,
// and the list of the free ones, at each call. Reading an entry takes 4 us
// instead of 0.4 us. Compaction deletes entry by entry (100,000 in 0.07 s,
// during which nothing else is written), and the file never shrinks.
//
// What this package adds to raft-boltdb: a checksum of each entry and stable
// value, verified whenever it is read (bolt has none but for two pages of its
// own); the size of any tail of the log ([Log.BytesFrom]); a file that appears
// complete or not at all, under a name that is synced; no gaps, so that
// [Log.IsMonotonic] cures raft issue 697; typed errors; and bolt's panics and
// faults of its memory map (a truncated file, a disk that cannot be read) as
// errors. docs/format.md says what is in the file.
//
// Any error but those documented as refusals is final, as in raftlog: all later
// calls answer it, and only a new Open starts afresh. bolt cannot be told that a
// write hangs: put a raftlog.Guard in front, which every raft needs anyway.
//
// bolt maps its file into memory and locks it, so the log needs a real disk:
// there is no vfs here, and so no test that cuts the power between two writes,
// as raftlog's do. That what was acknowledged survives a power cut rests on
// bolt, whose two meta pages make each commit atomic, and on a disk that
// honours fsync. Tests of replkv that crash members use raftlog.
//
// raft-boltdb/v2 is used at v2.3.0: v2.3.1 does not build together with
// hashicorp/raft v1.8.0. No other package of replkv imports this one, so an
// application whose module graph holds v2.3.1 builds as long as it does not
// either. raft-boltdb imports the old boltdb/bolt, which only knows the
// architectures 386, amd64, arm, arm64, ppc64(le) and s390x, and reports to
// armon/go-metrics' global sink, a black hole unless the host sets one.
//
// The package is public by path only and promises no compatibility of its Go
// API; its format on disk is versioned.
package boltlog
