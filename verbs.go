package replkv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"syscall"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

var _ KV = (*DB)(nil)

// errTimeout is the cause of a ctx that ends by RequestTimeout.
var errTimeout error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "request timed out" }

func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// deadline gives a ctx without deadline that of RequestTimeout.
func (db *DB) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, db.cfg.RequestTimeout, errTimeout)
}

// wrap makes the error of a call, with the leader as far as known.
func (db *DB) wrap(op string, outcome Outcome, err error) error {
	e := &Error{Op: op, Outcome: outcome, Err: err}
	if db.ctx.Err() == nil {
		e.LeaderID, e.LeaderAddr, _ = db.leader()
	}
	return e
}

// callError makes the error of a call that ended early. If RequestTimeout ended
// it while nobody leads, that is what the caller must hear; if the store has
// stopped, it is that, whatever else was met on the way.
func (db *DB) callError(op string, outcome Outcome, err error) error {
	if inner, ok := errors.AsType[*Error](err); ok {
		err = inner.Err
	}
	if db.ctx.Err() != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", db.stopped(), err)
	}
	timedOut := errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded)
	if timedOut && db.ctx.Err() == nil {
		if id, _, _ := db.leader(); id == "" {
			err = fmt.Errorf("%w (%w)", db.noLeader(), err)
		} else if errors.Is(err, errTimeout) {
			err = fmt.Errorf("%w after %v", errTimeout, db.cfg.RequestTimeout)
		}
	}
	if errors.Is(err, ErrNoLeader) && err.Error() == ErrNoLeader.Error() && db.ctx.Err() == nil { // nothing more is said
		err = db.noLeader()
	}
	return db.wrap(op, outcome, err)
}

// ctxError makes sure that the error of an expired call matches ctx.Err().
func ctxError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", err, ctx.Err())
	}
	return err
}

// check refuses a call on a closed store or with an ended ctx.
func (db *DB) check(ctx context.Context) error {
	if db.ctx.Err() != nil {
		return db.stopped()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// checkKey checks a key that is read or deleted. Limits of Config are for what is put:
// what was put under larger ones must not be out of reach.
func (db *DB) checkKey(key string) error { return checkKeyBytes(key, mostKeyBytes) }

func checkKeyBytes(key string, limit int) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrInvalidArgument)
	case len(key) > limit:
		return fmt.Errorf("%w: key of %d bytes, the limit is %d", ErrTooLarge, len(key), limit)
	}
	return nil
}

// checkPut checks what is put.
func (db *DB) checkPut(key string, value []byte) error {
	if err := checkKeyBytes(key, db.cfg.MaxKeyBytes); err != nil {
		return err
	}
	if len(value) > db.cfg.MaxValueBytes {
		return fmt.Errorf("%w: value of %d bytes, the limit is %d", ErrTooLarge, len(value), db.cfg.MaxValueBytes)
	}
	return nil
}

// checkRange bounds the bounds; that they are in order is Range.Validate's.
func checkRange(r Range) error {
	if from, to, _ := r.Bounds(); len(from) > mostKeyBytes+1 || len(to) > mostKeyBytes+1 {
		return fmt.Errorf("%w: a bound of the range is longer than a key may be", ErrTooLarge)
	}
	return nil
}

// write commits an operation and turns its status into an error.
func (db *DB) write(ctx context.Context, name string, op *command.Op) (command.OpResult, error) {
	if err := db.check(ctx); err != nil {
		return command.OpResult{}, db.wrap(name, OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.quota.admit(op); err != nil {
		db.counts.writeErrors.Add(1)
		return command.OpResult{}, db.wrap(name, OutcomeNotDone, err)
	}
	began := time.Now()
	a := db.writes.do(ctx, db.limit(ctx), op)
	if a.err == nil && a.res.Status == command.OK {
		db.counts.writes.Add(1)
		db.counts.writeLatency.since(began)
	} else {
		db.counts.writeErrors.Add(1)
	}
	if a.err != nil {
		return command.OpResult{}, db.callError(name, a.outcome, ctxError(ctx, a.err))
	}
	return a.res, db.statusError(name, &a.res)
}

// statusError is the error that an operation was answered with; nil if it was
// done.
func (db *DB) statusError(name string, res *command.OpResult) error {
	switch res.Status {
	case command.OK:
		return nil
	case command.Exists:
		return db.wrap(name, OutcomeNotDone, fmt.Errorf("%w: the lease exists", ErrConflict))
	case command.Compacted:
		return db.wrap(name, OutcomeNotDone, ErrCompacted)
	case command.Future:
		return db.wrap(name, OutcomeNotDone, ErrFutureRevision)
	case command.LeaseNotFound:
		return db.wrap(name, OutcomeNotDone, ErrLeaseNotFound)
	case command.Conflict:
		return db.wrap(name, OutcomeNotDone, ErrConflict)
	case command.TooLarge:
		return db.wrap(name, OutcomeNotDone, fmt.Errorf("%w: %s", ErrTooLarge, tooLarge(name)))
	case command.Invalid:
		return db.wrap(name, OutcomeNotDone, ErrInvalidArgument)
	case command.DroppedReply:
		return db.wrap(name, OutcomeDone, fmt.Errorf("%w: done at revision %d", ErrResultDropped, res.Revision))
	}
	return db.wrap(name, OutcomeUnknown, fmt.Errorf("unexpected status %d", res.Status))
}

// tooLarge says what the state machine refused.
func tooLarge(name string) string {
	switch name {
	case "Set":
		return "as many keys hang on the lease as may"
	case "Grant":
		return "there are as many leases as there may be"
	}
	return "more keys or bytes than one transaction may delete or return, or more keys than may hang on a lease"
}

// Set stores value under key and returns the revision it was written at. It
// may be called on any member. See KV.
func (db *DB) Set(ctx context.Context, key string, value []byte, opts ...SetOption) (Revision, error) {
	var o kv.SetOptions
	for _, opt := range opts {
		opt.ApplySet(&o)
	}
	op, err := db.setOp(key, value, &o)
	if err != nil {
		return 0, db.wrap("Set", OutcomeNotDone, err)
	}
	res, err := db.write(ctx, "Set", &op)
	if err != nil {
		return 0, err
	}
	return Revision(res.Revision), nil
}

func (db *DB) setOp(key string, value []byte, o *kv.SetOptions) (command.Op, error) {
	err := db.checkPut(key, value)
	if err == nil && o.IfRevision < 0 {
		err = fmt.Errorf("%w: revision %d", ErrInvalidArgument, o.IfRevision)
	}
	if err == nil && o.Lease != 0 {
		err = o.Lease.Validate()
	}
	return command.Op{Kind: command.Set, Key: []byte(key), Value: value, Conditional: o.Conditional, IfRevision: uint64(o.IfRevision),
		Lease: uint64(o.Lease)}, err
}

// Delete removes key. See KV.
func (db *DB) Delete(ctx context.Context, key string, opts ...DeleteOption) (DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	op, err := db.deleteOp(key, &o)
	if err != nil {
		return DeleteResult{}, db.wrap("Delete", OutcomeNotDone, err)
	}
	return deleteResult(db.write(ctx, "Delete", &op))
}

func (db *DB) deleteOp(key string, o *kv.DeleteOptions) (command.Op, error) {
	err := db.checkKey(key)
	if err == nil && o.IfRevision < 0 {
		err = fmt.Errorf("%w: revision %d", ErrInvalidArgument, o.IfRevision)
	}
	return command.Op{Kind: command.Delete, Key: []byte(key), ReturnPrev: o.ReturnPrev, Conditional: o.Conditional, IfRevision: uint64(o.IfRevision)}, err
}

// DeleteRange removes all keys of r at one revision; ErrTooLarge, and nothing
// done, if there are more than MaxTxnOps. ClearRange has no limit. See KV.
func (db *DB) DeleteRange(ctx context.Context, r Range, opts ...DeleteOption) (DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	op, err := db.deleteRangeOp(r, &o)
	if err != nil {
		return DeleteResult{}, db.wrap("DeleteRange", OutcomeNotDone, err)
	}
	return deleteResult(db.write(ctx, "DeleteRange", &op))
}

func (db *DB) deleteRangeOp(r Range, o *kv.DeleteOptions) (command.Op, error) {
	err := r.Validate()
	if err == nil {
		err = checkRange(r)
	}
	if err == nil && o.Conditional {
		err = fmt.Errorf("%w: DeleteRange takes no condition", ErrInvalidArgument)
	}
	from, to, open := r.Bounds()
	return command.Op{Kind: command.DeleteRange, Key: []byte(from), To: []byte(to), Open: open, ReturnPrev: o.ReturnPrev,
		MaxKeys: uint64(db.cfg.MaxTxnOps)}, err
}

func deleteResult(res command.OpResult, err error) (DeleteResult, error) {
	out := DeleteResult{Deleted: int64(res.Deleted), Revision: Revision(res.Revision)}
	for _, p := range res.Prev {
		out.Prev = append(out.Prev, Item{Key: string(p.Key), Value: append([]byte{}, p.Value...), CreateRevision: Revision(p.Create),
			ModRevision: Revision(p.Mod), Version: int64(p.Version), Lease: LeaseID(p.Lease)})
	}
	if err != nil && OutcomeOf(err) != OutcomeDone {
		return DeleteResult{}, err
	}
	return out, err
}

// ClearRange removes all keys of r, however many: in chunks, each a revision
// of its own. Keys written meanwhile may survive. After an error the result
// says what was removed, and the outcome is unknown if anything was; it may be called
// again.
func (db *DB) ClearRange(ctx context.Context, r Range) (DeleteResult, error) {
	if err := r.Validate(); err != nil {
		return DeleteResult{}, db.wrap("ClearRange", OutcomeNotDone, err)
	}
	total, err := db.clearRange(ctx, r)
	if err == nil {
		return total, nil
	}
	outcome := OutcomeUnknown
	if total.Deleted == 0 && OutcomeOf(err) == OutcomeNotDone {
		outcome = OutcomeNotDone
	}
	if e, ok := errors.AsType[*Error](err); ok { // of a step: Scan, DeleteRange
		err = e.Err
	}
	return total, db.wrap("ClearRange", outcome, err)
}

// clearRange deletes chunk after chunk; its errors are those of the steps.
func (db *DB) clearRange(ctx context.Context, r Range) (total DeleteResult, err error) {
	chunk := db.cfg.MaxTxnOps
	for {
		first, last, err := db.ends(ctx, r, chunk)
		if err != nil || last == "" {
			return total, err
		}
		res, err := db.DeleteRange(ctx, kv.Between(first, last+"\x00"))
		if errors.Is(err, ErrTooLarge) && chunk > 1 {
			chunk /= 2 // keys have come since, or theirs are long
			continue
		}
		if err != nil {
			return total, err
		}
		total.Deleted += res.Deleted
		total.Revision = res.Revision
	}
}

// ends returns the first and the last of the first n keys of r; "" if there is
// none.
func (db *DB) ends(ctx context.Context, r Range, n int) (first, last string, err error) {
	for item, err := range db.Scan(ctx, r, KeysOnly(), Limit(n)) {
		if err != nil {
			return "", "", err
		}
		first, last = cmp.Or(first, item.Key), item.Key
	}
	return first, last, nil
}

// barrier brings this member to the state that the options ask for.
func (db *DB) barrier(ctx context.Context, o *kv.ReadOptions) error {
	switch {
	case o.Revision < 0 || o.AtLeast < 0 || o.MaxStaleness < 0:
		return fmt.Errorf("%w: a negative revision or staleness", ErrInvalidArgument)
	case o.Local && o.AtLeast > 0:
		return fmt.Errorf("%w: both Local and AtLeast", ErrInvalidArgument)
	case o.MaxStaleness > 0 && (o.Local || o.AtLeast > 0):
		return fmt.Errorf("%w: MaxStaleness with Local or AtLeast", ErrInvalidArgument)
	case o.Local:
		return nil
	case o.AtLeast > 0:
		return db.revisions.wait(ctx, db.limit(ctx), uint64(o.AtLeast))
	case o.MaxStaleness > 0 && db.reads.fresh.within(o.MaxStaleness, db.state.State().Index):
		return nil
	}
	return db.reads.barrier(ctx, db.limit(ctx))
}

// Get returns the item of key, or ErrNotFound. It is linearizable on any
// member, unless an option says otherwise. See KV.
func (db *DB) Get(ctx context.Context, key string, opts ...GetOption) (Item, error) {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	err := db.checkKey(key)
	if err == nil {
		err = db.check(ctx)
	}
	if err != nil {
		return Item{}, db.wrap("Get", OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.barrier(ctx, &o); err != nil {
		return Item{}, db.callError("Get", OutcomeNotDone, ctxError(ctx, err))
	}
	db.counts.reads.Add(1)
	item, err := db.state.Get(key, o.Revision)
	if err != nil {
		return Item{}, db.readError("Get", err)
	}
	return item, nil
}

// GetMany returns those of the keys that are there. See KV.
func (db *DB) GetMany(ctx context.Context, keys ...string) (map[string]Item, error) {
	out := make(map[string]Item, len(keys))
	var failed error
	err := db.readMany(ctx, keys, func(item Item, err error) bool {
		if err == nil {
			out[item.Key] = item
		} else if !errors.Is(err, ErrNotFound) {
			failed = err
		}
		return failed == nil
	})
	if err = cmp.Or(err, failed); err != nil {
		return nil, err
	}
	return out, nil
}

// readMany reads keys, all after one confirmation, until fn says false.
func (db *DB) readMany(ctx context.Context, keys []string, fn func(Item, error) bool) error {
	if err := db.check(ctx); err != nil {
		return db.wrap("GetMany", OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return db.callError("GetMany", OutcomeNotDone, ctxError(ctx, err))
	}
	db.counts.reads.Add(uint64(len(keys)))
	for _, key := range keys {
		err := db.checkKey(key)
		var item Item
		if err != nil {
			err = db.wrap("Get", OutcomeNotDone, err)
		} else if item, err = db.state.Get(key, 0); err != nil {
			err = db.readError("Get", err)
		}
		if !fn(item, err) {
			break
		}
	}
	return nil
}

// readError is the error of a read of the local state. Once the store has stopped,
// what is no answer about the data is but a symptom.
func (db *DB) readError(op string, err error) error {
	db.diskFailed(err)
	if db.ctx.Err() != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCompacted) && !errors.Is(err, ErrFutureRevision) && !errors.Is(err, ErrInvalidArgument) {
		err = db.stopped()
	}
	return db.wrap(op, OutcomeNotDone, err)
}

// diskFailed stops the store if err says that its disk has failed: what comes next would
// not be better, and other members have the data.
func (db *DB) diskFailed(err error) {
	switch errno, ok := errors.AsType[syscall.Errno](err); {
	case !ok, errno == syscall.EMFILE, errno == syscall.ENFILE, errno == syscall.ENOMEM: // the process's, for now
	default:
		if db.ctx.Err() == nil {
			db.fatal(fmt.Errorf("read the state: %w", err))
		}
	}
}

// Revision returns the store's current revision, linearizably.
func (db *DB) Revision(ctx context.Context) (Revision, error) {
	if err := db.check(ctx); err != nil {
		return 0, db.wrap("Revision", OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return 0, db.callError("Revision", OutcomeNotDone, ctxError(ctx, err))
	}
	return db.state.State().Revision, nil
}

const (
	scanPageItems = 1000
	scanPageBytes = 1 << 20
)

// Scan yields the items of r in key order as of one revision, in pages: no
// iterator or lock is held while the loop's body runs, so it may write. Each
// loop over the returned sequence is a scan of its own. See KV.
func (db *DB) Scan(ctx context.Context, r Range, opts ...ScanOption) iter.Seq2[Item, error] {
	var o kv.ScanOptions
	for _, opt := range opts {
		opt.ApplyScan(&o)
	}
	return func(yield func(Item, error) bool) {
		if err := db.beginScan(ctx, r, &o); err != nil {
			yield(Item{}, err)
			return
		}
		db.scanPages(ctx, r, o, yield)
	}
}

// beginScan validates and brings the member to the state that the scan reads.
func (db *DB) beginScan(ctx context.Context, r Range, o *kv.ScanOptions) error {
	err := r.Validate()
	if err == nil && o.Limit < 0 {
		err = fmt.Errorf("%w: limit %d", ErrInvalidArgument, o.Limit)
	}
	if err == nil {
		err = db.check(ctx)
	}
	if err != nil {
		return db.wrap("Scan", OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.barrier(ctx, &o.ReadOptions); err != nil {
		return db.callError("Scan", OutcomeNotDone, ctxError(ctx, err))
	}
	return nil
}

func (db *DB) scanPages(ctx context.Context, r Range, o kv.ScanOptions, yield func(Item, error) bool) {
	rev := o.Revision
	db.pages(ctx, r, o, yield, func(r Range, p *store.Page) (items []Item, more bool, err error) {
		p.Revision = rev
		db.counts.reads.Add(1)
		// All further pages are of the same revision.
		if items, rev, more, err = db.state.Scan(r, *p); err != nil {
			err = db.readError("Scan", err)
		}
		return items, more, err
	})
}

// pages yields what read returns, page after page.
func (db *DB) pages(ctx context.Context, r Range, o kv.ScanOptions, yield func(Item, error) bool,
	read func(Range, *store.Page) (items []Item, more bool, err error)) {
	p := store.Page{Reverse: o.Reverse, KeysOnly: o.KeysOnly, MaxBytes: scanPageBytes}
	left := o.Limit
	for {
		if err := db.check(ctx); err != nil {
			yield(Item{}, db.wrap("Scan", OutcomeNotDone, ctxError(ctx, err)))
			return
		}
		p.Limit = scanPageItems
		if o.Limit > 0 {
			p.Limit = min(p.Limit, left)
		}
		items, more, err := read(r, &p)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		left -= len(items)
		if !more || o.Limit > 0 && left == 0 {
			return
		}
		r = rest(r, items[len(items)-1].Key, o.Reverse)
	}
}

// rest returns the part of r after key, in the scan's direction.
func rest(r Range, key string, reverse bool) Range {
	from, to, open := r.Bounds()
	switch {
	case reverse:
		return kv.Between(from, key)
	case open:
		return kv.From(key + "\x00")
	}
	return kv.Between(key+"\x00", to)
}
