package replkv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/lease"
	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/internal/watch"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/transport"
)

// DB is an open store: one member of a cluster. Its methods may be called from
// any goroutine.
type DB struct {
	cfg     Config
	log     *slog.Logger
	id      *identity     // after Open guarded by proof.mu
	present command.Start // of id
	lock    io.Closer
	state   *store.Store
	guard   *raftlog.Guard
	// What the floor said at Open.
	floorFound bool
	floorIndex uint64
	trans      *transport.Transport
	raft       *raft.Raft

	snaps   *snapshots
	leads   *leaderWatch
	entries *entryQueue
	writes  *writer
	reads   *reads
	lessor  *lease.Lessor
	watches *watch.Hub
	peers   neighbours
	proof   proof
	members *members
	events  *events
	wlog    *watchedLog
	counts  counts
	turns   optimistic.Turns           // of Updates
	table   atomic.Pointer[Membership] // the newest that was taken up

	keepAlives, leaseLooks leaseCalls

	limits    limits
	quota     quota
	applied   waitList // the applied index
	revisions waitList // the revision applied

	listener net.Listener // served by the handle itself; nil if the application mounts the peer service
	server   *grpc.Server

	// ctx ends when the store stops for whatever reason; its cause is what
	// calls answer.
	ctx    context.Context
	cancel context.CancelCauseFunc

	wg      sync.WaitGroup // every goroutine of the handle but the workers
	workers sync.WaitGroup // those that propose entries
	taker   sync.WaitGroup // the one that takes snapshots
	tearing atomic.Bool    // teardown has begun
	gone    chan struct{}  // closed when teardown is over

	mu     sync.Mutex // protects the fields below
	opened bool       // Open has returned, or is about to
	err    error      // why the store stopped
	closed error      // what Close answers
	left   string     // what teardown could not free
}

// background runs fn on a goroutine that teardown waits for.
func (db *DB) background(fn func()) {
	// Never after teardown began to wait: ctx ends first, and all callers run
	// on goroutines that wg holds already or check ctx under stop's lock.
	db.wg.Add(1)
	go func() {
		defer db.wg.Done()
		fn()
	}()
}

// Done returns a channel that is closed when the store has stopped: by Close
// or Shutdown, or because it could not go on (Err says why).
func (db *DB) Done() <-chan struct{} { return db.ctx.Done() }

// Err returns nil while the store works, ErrClosed after Close, or what stopped
// it.
func (db *DB) Err() error {
	if db.ctx.Err() == nil {
		return nil
	}
	if err := db.cause(); err != nil {
		return err
	}
	return ErrClosed
}

// cause is what stopped the store; nil after Close.
func (db *DB) cause() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.err == ErrClosed {
		return nil
	}
	return db.err
}

// stopped is why calls fail once the store has stopped: ErrClosed, also if there is a
// cause, so that who can asks another member whatever this one suffers from.
func (db *DB) stopped() error {
	if err := db.cause(); err != nil {
		return &stopError{err}
	}
	return ErrClosed
}

type stopError struct{ cause error }

func (e *stopError) Error() string        { return fmt.Sprintf("%v: %v", ErrClosed, e.cause) }
func (e *stopError) Unwrap() error        { return e.cause }
func (e *stopError) Is(target error) bool { return target == ErrClosed }

// Ready waits until this member can serve: it knows a leader and has applied
// everything committed before the call.
func (db *DB) Ready(ctx context.Context) error {
	if err := db.reads.barrier(ctx, db.limit(ctx)); err != nil {
		return db.callError("Ready", OutcomeNotDone, ctxError(ctx, err))
	}
	return nil
}

// stop makes every call and goroutine of the handle end with cause. The first
// cause wins.
func (db *DB) stop(cause error) {
	db.mu.Lock()
	if db.err == nil {
		db.err = cause
	}
	db.mu.Unlock()
	db.cancel(db.stopped()) // what was derived from ctx ends with it, and its waiters answer it
}

// fatal is called with an error after which this member can not be trusted, by
// whatever goroutine met it: the store stops, and tears down on a goroutine of
// its own. While Open is under way, Open tears down.
func (db *DB) fatal(err error) {
	db.log.Error("the store stops", "error", err)
	db.stop(err)
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.opened {
		go db.teardown()
	}
}

// Close stops the store at once and frees what it holds. Calls under way end
// with ErrClosed. It may be called again. To spare the cluster an election, use
// Shutdown.
func (db *DB) Close() error {
	db.stop(ErrClosed)
	db.teardown()
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.closed
}

// Shutdown hands leadership over, lets the writes under way finish, and closes
// the store. If ctx ends first, it closes at once and returns ctx's error.
// Applications call it before their gRPC server's GracefulStop.
func (db *DB) Shutdown(ctx context.Context) error {
	db.writes.close()
	err := db.drain(ctx)
	if err == nil {
		err = db.handOver(ctx)
	}
	if err != nil {
		err = ctxError(ctx, err)
	}
	return errors.Join(err, db.Close())
}

func (db *DB) drain(ctx context.Context) error {
	for !db.writes.drained() && db.ctx.Err() == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		pause(ctx, nil)
	}
	return nil
}

// handOver makes another voter lead, if this member does and there is one.
// Without a quorum nothing is handed over, which is no error.
func (db *DB) handOver(ctx context.Context) error {
	if db.ctx.Err() != nil || db.raft.State() != raft.Leader || len(db.voters()) < 2 {
		return nil
	}
	select {
	case err := <-db.transferred(db.raft.LeadershipTransfer()):
		if err != nil {
			db.log.Warn("leadership was not handed over", "error", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-db.ctx.Done():
		return nil
	}
}

// transferred tells the outcome of a transfer of leadership. raft does not answer one that
// its main loop has not taken up when it is shut down, and this kind of future alone is
// not told of the shutdown, though it has the field for it: a goroutine would wait for
// good, and keep all of raft. So the field is set here; only Error looks at it.
func (db *DB) transferred(future raft.Future) <-chan error {
	if v := reflect.Indirect(reflect.ValueOf(future)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("ShutdownCh"); f.CanSet() && f.Type() == reflect.TypeOf(db.gone) {
			f.Set(reflect.ValueOf(db.gone))
		}
	}
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	return done
}

// teardownPatience bounds each wait of teardown: after a fatal error a disk
// that hangs may never let go.
const teardownPatience = 5 * time.Second

// teardown frees everything, in this order: stop serving and dialing, so that
// nothing more commits; let raft answer what is under way; stop raft; wait for
// our goroutines; close the stores. Who comes second waits, on a channel: a sync.Once
// would hold up the time of a test that has its own.
func (db *DB) teardown() {
	if !db.tearing.CompareAndSwap(false, true) {
		<-db.gone
		return
	}
	defer close(db.gone)
	var errs []error
	db.writes.close()
	db.entries.close()
	if db.server != nil {
		db.server.Stop()
	}
	errs = append(errs, db.trans.Close())
	wait := func(wg *sync.WaitGroup) func() error { return func() error { wg.Wait(); return nil } }
	// raft must live until it has answered: it forgets futures when it stops.
	errs = append(errs, db.waitFor("snapshot", wait(&db.taker)))
	db.settleFutures()
	if err := db.waitFor("raft", func() error { return db.raft.Shutdown().Error() }); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, db.waitFor("workers", wait(&db.workers)), db.waitFor("goroutines", wait(&db.wg)))
	err := db.waitFor("state", db.state.Close)
	if errors.Is(err, store.ErrEngineLeft) {
		db.mu.Lock()
		db.left += "state "
		db.mu.Unlock()
	}
	errs = append(errs, err, db.waitFor("log", db.guard.Close))
	errs = append(errs, db.lock.Close())
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.err == ErrClosed {
		db.closed = errors.Join(errs...)
	}
}

// settleFutures waits, briefly, until raft has answered the entries in flight:
// a future whose entry is committed but not yet applied when raft shuts down
// is never answered.
func (db *DB) settleFutures() {
	for end := time.Now().Add(teardownPatience); time.Now().Before(end); {
		if db.entries.inFlight() == 0 || db.guard.Err() != nil {
			return
		}
		// Without peers nothing more commits. If all that is committed is
		// applied, raft's shutdown answers the rest.
		if len(db.voters()) > 1 && db.raft.CommitIndex() <= db.state.State().Index {
			return
		}
		t := time.NewTimer(time.Millisecond)
		<-t.C
	}
}

// waitFor runs fn and gives up on it after a while, noting what is left.
func (db *DB) waitFor(what string, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	t := time.NewTimer(teardownPatience)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		db.mu.Lock()
		defer db.mu.Unlock()
		db.left += what + " "
		return fmt.Errorf("%s did not stop within %v", what, teardownPatience)
	}
}
