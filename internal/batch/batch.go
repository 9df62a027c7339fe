// Package batch has the terms in which a remote client's writes reach the
// handle: what package service takes from the network, and its backends do.
package batch

import (
	"time"

	"github.com/replkv/replkv/kv"
)

// MaxWrites bounds a batch, and with it what one log entry makes apply do.
const MaxWrites = 4096

// Session names a client's session.
type Session [16]byte

// Batch is a session's unit of exactly-once.
type Batch struct {
	Session       Session
	Seq, LowWater uint64
	Writes        []Write
}

// Write is one operation of a batch.
type Write struct {
	Op     string // "Set", "Delete", "DeleteRange", "Txn", "Grant", "Revoke" or "Compact"
	Key    string // of Set and Delete
	Value  []byte // of Set
	Range  kv.Range
	Set    kv.SetOptions
	Delete kv.DeleteOptions
	Txn    kv.Txn
	Lease  kv.LeaseID    // of Grant and Revoke
	TTL    time.Duration // of Grant
	// Revision of a Compact.
	Revision kv.Revision
	// Refused says why the operation is not one. It keeps its place in the batch:
	// another member may have taken it, and a retry must get that answer.
	Refused error
}

// Result is what became of a Write.
type Result struct {
	kv.DeleteResult // of a Set or Txn: the revision; of a Revoke: the keys
	Txn             kv.TxnResult
	Err             error
}
