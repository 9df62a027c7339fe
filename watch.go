package replkv

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/replkv/replkv/internal/watch"
	"github.com/replkv/replkv/kv"
)

// Watch yields the changes of r, each exactly once and whole revisions only, on
// any member. Without a start it needs a leader, as a linearizable read does;
// from a revision that this member has, it needs nobody. A member that is cut
// off from the leader has nothing new to tell until it hears of it again. More
// watches at once than 16,384 are ErrOverloaded. See KV.
func (db *DB) Watch(ctx context.Context, r Range, opts ...WatchOption) iter.Seq2[Change, error] {
	return db.watch(ctx, watch.Options{Range: r, WatchOptions: kv.WatchOptionsOf(opts)})
}

func (db *DB) watch(ctx context.Context, o watch.Options) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		o := o // each loop binds its own beginning
		err := db.beginWatch(ctx, &o)
		if err == nil {
			err = db.watchLoop(ctx, o, yield)
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// beginWatch validates, and finds out where the watch begins.
func (db *DB) beginWatch(ctx context.Context, o *watch.Options) error {
	err := errors.Join(o.Range.Validate(), o.Validate())
	if err == nil {
		err = db.check(ctx)
	}
	if err != nil {
		return db.wrap("Watch", OutcomeNotDone, ctxError(ctx, err))
	}
	if o.Resume && o.After <= db.state.State().Revision {
		return nil
	}
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return db.callError("Watch", OutcomeNotDone, ctxError(ctx, err))
	}
	newest := db.state.State().Revision
	switch {
	case !o.Resume:
		o.After = newest
	case o.After > newest:
		return db.wrap("Watch", OutcomeNotDone, fmt.Errorf("%w: revision %d, the newest is %d", ErrFutureRevision, o.After, newest))
	}
	return nil
}

func (db *DB) watchLoop(ctx context.Context, o watch.Options, yield func(Change, error) bool) error {
	err := db.watches.Watch(ctx, db.ctx, o, func(c Change) bool { return yield(c, nil) })
	if ctx.Err() == nil { // else err may be its cause
		db.diskFailed(err)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctxError(ctx, err)
	case db.ctx.Err() != nil:
		err = db.stopped()
	case errors.Is(err, ErrOverloaded):
		db.counts.overloaded.Add(1)
	}
	return db.wrap("Watch", OutcomeNotDone, err)
}

// Watch is for package service, which sends the changes and nothing else: watchers need no
// copies of their own.
func (b serviceBackend) Watch(ctx context.Context, r Range, opts ...WatchOption) iter.Seq2[Change, error] {
	return b.DB.watch(ctx, watch.Options{Range: r, WatchOptions: kv.WatchOptionsOf(opts), Shared: true})
}
