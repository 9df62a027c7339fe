// Package kv is the vocabulary of replkv: items, ranges, options, errors and
// the KV interface. It depends on the standard library only, so that the
// embedded handle (package replkv) and the remote client (package client)
// share the same types, and a process that does not embed the store does not
// link its engine. Package replkv re-exports everything here by alias:
// users write replkv.Item, replkv.Prefix, replkv.ErrNotFound.
package kv

import (
	"context"
	"iter"
)

// KV is the set of verbs that the embedded handle (*replkv.DB) and the remote
// client (*client.Client) have in common.
//
// Every call takes a ctx and ends when it does. Keys are arbitrary non-empty
// bytes held in a string. Arguments are copied before a call returns; returned
// values belong to the caller. Reads are linearizable unless an option says
// otherwise. A failed write says, through OutcomeOf, whether it was done.
type KV interface {
	// Get returns the item of key, or ErrNotFound.
	// It may be retried freely.
	Get(ctx context.Context, key string, opts ...GetOption) (Item, error)
	// Set stores value under key and returns the revision it was written at.
	// A nil value is stored as empty. With a condition (IfRevision, IfAbsent)
	// that does not hold, it returns ErrConflict and changes nothing.
	Set(ctx context.Context, key string, value []byte, opts ...SetOption) (Revision, error)
	// Delete removes key. Deleting an absent key succeeds, with Deleted == 0,
	// and does not advance the revision.
	Delete(ctx context.Context, key string, opts ...DeleteOption) (DeleteResult, error)
	// DeleteRange removes all keys of r at one revision. The zero Range is an
	// error, and so is a range of more keys than the limit of one
	// transaction (ErrTooLarge; nothing is done).
	DeleteRange(ctx context.Context, r Range, opts ...DeleteOption) (DeleteResult, error)
	// GetMany returns those of the keys that are there, each linearizably; not all
	// at one revision: View does that.
	GetMany(ctx context.Context, keys ...string) (map[string]Item, error)
	// Txn does a transaction, whole and at one revision, or nothing of it: see Txn,
	// the type. If a comparison does not hold, that is no error. ErrTooLarge: it has
	// more operations, or looks at or returns more, than a transaction may.
	Txn(ctx context.Context, t Txn) (TxnResult, error)
	// View runs fn, on the caller's goroutine, on the store as it is at one
	// revision, and returns its error as it is.
	View(ctx context.Context, fn func(*ReadTx) error, opts ...ReadOption) error
	// Update runs fn, on the caller's goroutine, and commits what it has written if
	// nothing that it has read, ranges included, has changed since; else fn runs
	// again, until ctx ends: fn must have no effects of its own. It returns the
	// revision of the commit; that of the reads, if fn wrote nothing; fn's error as
	// it is, and nothing is done.
	Update(ctx context.Context, fn func(*Tx) error) (Revision, error)
	// Scan yields the items of r in key order, as of one revision that is
	// bound when the loop begins. An error is the last pair. Breaking out of
	// the loop frees everything; no lock is held while the body runs.
	Scan(ctx context.Context, r Range, opts ...ScanOption) iter.Seq2[Item, error]
	// Watch yields the changes of r, one whole revision at a time, in order, each
	// exactly once. Without AfterRevision or FromRevision it begins with what is
	// written after the loop began, linearizably. It goes on until the loop's body
	// breaks out, which frees everything, or an error is the last pair: ctx's own,
	// ErrClosed, or *CompactedError if history was compacted before it was
	// delivered. A deadline of ctx bounds the loop, RequestTimeout does not. Each
	// loop over the returned sequence is a watch of its own. A body that is slow
	// slows nobody else, and loses nothing: the watch reads history meanwhile.
	Watch(ctx context.Context, r Range, opts ...WatchOption) iter.Seq2[Change, error]
	// Revision returns the store's current revision, linearizably.
	Revision(ctx context.Context) (Revision, error)
}
