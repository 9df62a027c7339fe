package replkv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/internal/command"
)

// Remote clients have sessions of their own: a batch is retried by the client,
// over any member, as often as it takes, and done once (Ongaro's thesis,
// section 6.3). The state machine forgets the session unused for longest when
// there are too many.

// OpenSession opens a session for a remote client. An id is proposed at most
// once: a late copy of its opening would revive it after it was evicted, and
// with it old copies of its batches.
func (b serviceBackend) OpenSession(ctx context.Context) (id batch.Session, err error) {
	db := b.DB
	if err := db.check(ctx); err != nil {
		return id, db.wrap("OpenSession", OutcomeNotDone, ctxError(ctx, err))
	}
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	for {
		if _, err := rand.Read(id[:]); err != nil {
			return id, db.wrap("OpenSession", OutcomeNotDone, err)
		}
		reign := db.leads.current()
		a := db.attempt(ctx, reign, unsessioned(&command.Op{Kind: command.OpenSession, Session: command.SessionID(id)}))
		if a.err == nil {
			if len(a.result.Ops) == 1 && a.result.Ops[0].Status == command.OK {
				return id, nil
			}
			a.err = fmt.Errorf("%w: answered with %v", ErrCorrupt, a.result)
		}
		if err := db.check(ctx); err != nil {
			return id, db.callError("OpenSession", OutcomeNotDone, ctxError(ctx, err))
		}
		if errors.Is(a.err, ErrOverloaded) || errors.Is(a.err, ErrCorrupt) {
			return id, db.wrap("OpenSession", OutcomeNotDone, a.err)
		}
		pause(ctx, reign.Done())
	}
}

// Write does a batch of a remote client's session.
func (b serviceBackend) Write(ctx context.Context, w *batch.Batch) ([]batch.Result, error) {
	db := b.DB
	if err := db.check(ctx); err != nil {
		return nil, db.wrap("Write", OutcomeNotDone, ctxError(ctx, err))
	}
	raw := db.encode(w)
	if len(raw) > db.cfg.maxBatchBytes() {
		return nil, db.wrap("Write", OutcomeNotDone, fmt.Errorf("%w: a batch of %d bytes, the limit is %d", ErrTooLarge, len(raw), db.cfg.maxBatchBytes()))
	}
	if err := b.admit(int64(len(raw))); err != nil {
		return nil, db.wrap("Write", OutcomeNotDone, err)
	}
	defer b.underway.Add(-int64(len(raw)))
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	res, maybe, err := db.commit(ctx, raw)
	if err == nil && len(res.Ops) != len(w.Writes) {
		// Under this number another batch was done: the client broke the rules.
		err, maybe = fmt.Errorf("%w: the session's batch %d had %d operations", ErrInvalidArgument, w.Seq, len(res.Ops)), false
	}
	if err != nil {
		if errors.Is(err, errSessionLost) {
			err = ErrSessionNotFound
		}
		outcome := OutcomeNotDone
		if maybe {
			outcome = OutcomeUnknown
		}
		db.counts.writeErrors.Add(uint64(len(w.Writes)))
		return nil, db.callError("Write", outcome, ctxError(ctx, err))
	}
	return db.written(w, res), nil
}

// admit bounds the bytes of remote clients' batches under way, on followers too.
func (b serviceBackend) admit(n int64) error {
	if sum := b.underway.Add(n); sum > n && sum > b.cfg.MaxInFlightBytes {
		b.underway.Add(-n)
		b.counts.overloaded.Add(1)
		return fmt.Errorf("%w: %d bytes of clients' writes are under way", ErrOverloaded, sum-n)
	}
	return nil
}

// encode encodes a batch. What is refused becomes an operation that apply
// refuses, too: if another member has taken it before, its answer holds.
func (db *DB) encode(b *batch.Batch) []byte {
	raw := command.AppendBatchHeader(nil, command.SessionID(b.Session), b.Seq, b.LowWater, len(b.Writes))
	for i := range b.Writes {
		w := &b.Writes[i]
		var op command.Op
		err := w.Refused
		switch {
		case err != nil:
		case w.Op == "Set":
			op, err = db.setOp(w.Key, w.Value, &w.Set)
		case w.Op == "Delete":
			op, err = db.deleteOp(w.Key, &w.Delete)
		case w.Op == "Txn":
			op, err = db.txnOp(&w.Txn)
		case w.Op == "Grant":
			op = grantOp(w.Lease, w.TTL)
		case w.Op == "Revoke":
			op = command.Op{Kind: command.Revoke, Lease: uint64(w.Lease)}
		case w.Op == "Compact":
			op = command.Op{Kind: command.Compact, Revision: uint64(w.Revision)}
		default:
			op, err = db.deleteRangeOp(w.Range, &w.Delete)
		}
		if err == nil {
			err = db.quota.admit(&op)
		}
		if err != nil {
			w.Refused, op = err, command.Op{Kind: command.Delete}
		}
		raw = command.AppendOp(raw, &op)
	}
	return raw
}

func (db *DB) written(b *batch.Batch, res *command.BatchResult) []batch.Result {
	out := make([]batch.Result, len(res.Ops))
	for i := range res.Ops {
		w, r := &b.Writes[i], &res.Ops[i]
		if r.Status == command.OK {
			db.counts.writes.Add(1)
		} else {
			db.counts.writeErrors.Add(1)
		}
		if r.Status == command.Invalid && w.Refused != nil {
			out[i].Err = db.wrap(w.Op, OutcomeNotDone, w.Refused)
			continue
		}
		if r.Status == command.Invalid && db.cfg.QuotaBytes > 0 && writeGrows(w) {
			// This member finds it valid. Most likely it was refused for the quota by
			// another, before.
			out[i].Err = db.wrap(w.Op, OutcomeNotDone, fmt.Errorf("%w, or a limit of the member that had it first", ErrQuota))
			continue
		}
		err := db.statusError(w.Op, r)
		if w.Op == "Txn" {
			out[i].Txn, out[i].Err = txnResult(*r, err)
			out[i].Revision = out[i].Txn.Revision
			continue
		}
		out[i].DeleteResult, out[i].Err = deleteResult(*r, err)
	}
	return out
}

// writeGrows is grows before the operation is encoded.
func writeGrows(w *batch.Write) bool {
	return w.Op == "Set" || w.Op == "Grant" || w.Op == "Txn" && puts(&w.Txn)
}

// ReadMany makes it a backend of package service.
func (b serviceBackend) ReadMany(ctx context.Context, keys []string, fn func(Item, error) bool) error {
	return b.readMany(ctx, keys, fn)
}
