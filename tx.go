package replkv

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

// maxTxnAge is how long a View or Update may keep its revision open: the state
// keeps what was overwritten or compacted since. After it, its reads fail with
// ErrTxnTooOld.
const maxTxnAge = 10 * time.Second

// View runs fn, on the caller's goroutine, on the store as it is at one revision,
// which is linearizable unless an option says otherwise. It returns fn's error as
// it is; ErrTxnTooOld if fn takes longer than 10 s. A panic of fn goes on to the
// caller. See KV.
func (db *DB) View(ctx context.Context, fn func(*ReadTx) error, opts ...ReadOption) error {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	return optimistic.View(ctx, viewer{db, "View", &o}, 0, fn)
}

// Update runs fn, on the caller's goroutine, and commits what it has written, if
// nothing that it has read, ranges included, has changed since; else fn runs again,
// until ctx ends. So fn must have no effects of its own, and its transactions are
// strictly serializable. It works on any member.
//
// It returns the revision of the commit; of the reads, if fn wrote nothing; fn's
// error as it is. ErrTooLarge: fn has read and written more than MaxTxnOps keys and
// ranges, or more bytes than an entry holds. ErrTxnTooOld if fn takes longer than 10 s.
// A panic of fn discards the transaction and goes on to the caller. See KV.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) (Revision, error) {
	ctx, cancel := db.deadline(ctx)
	defer cancel()
	limits := kv.TxLimits{KeyBytes: db.cfg.MaxKeyBytes, ValueBytes: db.cfg.MaxValueBytes, Bytes: db.cfg.maxTxnBytes(), Size: db.cfg.MaxTxnOps}
	return optimistic.Update(ctx, viewer{db, "Update", &kv.ReadOptions{}}, &db.turns, limits, fn, func() { db.counts.txnConflicts.Add(1) })
}

// viewer opens the snapshots of View and Update.
type viewer struct {
	db *DB
	op string
	o  *kv.ReadOptions
}

func (v viewer) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) { return v.db.Txn(ctx, t) }

func (v viewer) Begin(ctx context.Context, after kv.Revision) (kv.Snapshot, func(), error) {
	db := v.db
	if err := db.check(ctx); err != nil {
		return nil, nil, db.wrap(v.op, OutcomeNotDone, ctxError(ctx, err))
	}
	var err error
	switch {
	case v.o.Revision != 0:
		err = fmt.Errorf("%w: AtRevision with %s", ErrInvalidArgument, v.op)
	case after > 0:
		err = db.revisions.wait(ctx, db.limit(ctx), uint64(after))
	default:
		err = db.barrier(ctx, v.o)
	}
	if err != nil {
		return nil, nil, db.callError(v.op, OutcomeNotDone, ctxError(ctx, err))
	}
	view, err := db.state.View()
	if err != nil {
		return nil, nil, db.readError(v.op, err)
	}
	db.counts.reads.Add(1)
	tooOld := time.AfterFunc(maxTxnAge, func() { view.Close() })
	closing := context.AfterFunc(db.ctx, func() { view.Close() })
	return &snapshot{db, view}, func() {
		tooOld.Stop()
		closing()
		view.Close() // an error would be of files that are only read
	}, nil
}

// snapshot reads a view of the state.
type snapshot struct {
	db   *DB
	view *store.View
}

func (s *snapshot) Revision() kv.Revision { return s.view.Revision() }

// readError: a view that was closed under its reader is too old, or the store stops.
func (s *snapshot) readError(op string, err error) error {
	s.db.diskFailed(err)
	if s.db.ctx.Err() != nil {
		err = s.db.stopped()
	}
	return s.db.wrap(op, OutcomeNotDone, err)
}

func (s *snapshot) Get(_ context.Context, key string) (Item, error) {
	if err := s.db.checkKey(key); err != nil {
		return Item{}, s.db.wrap("Get", OutcomeNotDone, err)
	}
	item, err := s.view.Get(key)
	if err != nil {
		return Item{}, s.readError("Get", err)
	}
	return item, nil
}

func (s *snapshot) Scan(ctx context.Context, r Range, o kv.ScanOptions) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s.db.pages(ctx, r, o, yield, func(r Range, p *store.Page) ([]Item, bool, error) {
			items, more, err := s.view.Scan(r, *p)
			if err != nil {
				err = s.readError("Scan", err)
			}
			return items, more, err
		})
	}
}
