// Package hook is how a test owns the edges of a store: its disk, its clock,
// its failpoints. Package replkv sets Open; replkvtest and the simulation call
// it. Nothing of it shows in the public API.
package hook

import (
	"time"

	"github.com/replkv/replkv/store/disk"
)

// Edges are what a store touches of the world besides the network, which
// Config has already. A zero field is the real thing.
type Edges struct {
	FS disk.FS
	// Now is the clock of proposals. Apply reads no clock.
	Now func() time.Time
	// Failpoint is called at named points; an error it returns is treated as
	// if the step had failed.
	Failpoint func(name string) error
	// TrailingLogs is how many entries stay in the log at least when it is
	// truncated; 0: as many as always.
	TrailingLogs uint64
}

// Open opens a store on these edges; cfg is a replkv.Config, the answer a
// *replkv.DB.
var Open func(cfg any, e Edges) (any, error)

// WithEdges returns cfg, a replkv.Config, with these edges: for Restore and its like.
var WithEdges func(cfg any, e Edges) any

// Inspect gives the inner parts of an open store to the checks of tests.
var Inspect func(db any) Insides

// Insides are what a test may look into.
type Insides struct {
	// HashAt hashes all items at a revision.
	HashAt func(revision int64) (sum [32]byte, items int, err error)
	// Chain returns the applied index and the running hash of effects.
	Chain func() (index uint64, chain [32]byte)
	// HashLeases hashes all leases and what is noted of their keys, and says of
	// which applied index that is.
	HashLeases func() (index uint64, sum [32]byte, err error)
	// Plant writes a value past raft, to see that checks notice.
	Plant func(key, value string) error
	// Knows says whether this member has applied the present start of another.
	Knows func(other any) bool
	// Installed counts the snapshots installed since Open.
	Installed func() int
	// FirstIndex is that of the oldest entry in the log.
	FirstIndex func() uint64
	// Leaks tells what of the store is still there after Close; "" if nothing.
	Leaks func() string
}
