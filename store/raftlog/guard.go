package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Store is what a Guard protects. What it may offer besides, the Guard uses:
//
//	IsMonotonic() bool             passed on to raft
//	BytesFrom(index uint64) int64  for the byte tail and the byte limit of pins
//	WritesBounded() bool           the store itself gives up writes that hang
//	OnFailure(func(error))         the store's own fatal errors, met in the background
//	Close() error                  called by the Guard's Close
type Store interface {
	raft.LogStore
	raft.StableStore
}

// GuardOptions of a Guard. The zero value of each field is its documented default.
type GuardOptions struct {
	// Logger gets the fatal error and lost pins. nil: silent.
	Logger *slog.Logger
	// OnFatal is called once, with the first fatal error, on the goroutine
	// that met it. It must not block, nor wait for raft. nil: nobody is told.
	OnFatal func(error)
	// Deadline bounds each call of the store. 0: DefaultWriteDeadline;
	// negative: none.
	Deadline time.Duration
	// TrailingBytes of the newest entries stay when raft compacts its log, for
	// followers that lag. 0: DefaultTrailingBytes; negative: none.
	TrailingBytes int64
	// PinBytes is how much log a pin may keep. 0: DefaultPinBytes; negative:
	// no limit.
	PinBytes int64
	// PinTimeout is how long a pin lasts without progress. 0:
	// DefaultPinTimeout; negative: for ever.
	PinTimeout time.Duration
	// Floor remembers what the store promised; see [Guard.CheckFloor]. The
	// Guard writes it: with each term and vote, before the log's end is cut
	// off, at most once per second as the log grows, and at Close, which
	// closes it. nil: none.
	Floor *Floor
	// Applied is the state machine's applied index, for the floor. Any
	// goroutine calls it; it must not block. nil: none.
	Applied func() uint64
}

const (
	// DefaultTrailingBytes lets a follower that was away for a moment catch
	// up from the log; it is also what a restart may read in vain.
	DefaultTrailingBytes = 16 << 20
	// DefaultPinBytes is an hour of modest writes; a follower that needs more
	// is slower than the writers and would never catch up.
	DefaultPinBytes = 1 << 30
	// DefaultPinTimeout is well above a follower's longest pause that is not
	// a failure: a restart that opens a received snapshot.
	DefaultPinTimeout = time.Minute
)

func (o GuardOptions) withDefaults() GuardOptions {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultWriteDeadline
	}
	if o.TrailingBytes == 0 {
		o.TrailingBytes = DefaultTrailingBytes
	}
	if o.PinBytes == 0 {
		o.PinBytes = DefaultPinBytes
	}
	if o.PinTimeout == 0 {
		o.PinTimeout = DefaultPinTimeout
	}
	return o
}

var (
	_ raft.LogStore          = (*Guard)(nil)
	_ raft.StableStore       = (*Guard)(nil)
	_ raft.MonotonicLogStore = (*Guard)(nil)
)

// Guard gives raft a store that never returns an error that would make raft
// panic or go on in a wrong state (leave out raft.ErrLogNotFound and the
// stable store's "not found", which are answers).
//
// Until it is armed, errors are returned as they are. Afterwards the first
// error is fatal: it goes to OnFatal, and that call and every later one end
// the goroutine that makes it by runtime.Goexit. raft's goroutines run their
// deferred functions then: a leader steps down and stops its heartbeats,
// in-flight futures fail, Shutdown().Error() returns. Futures of calls made
// afterwards may never be answered; select on more than the future. So only
// raft's own goroutines may call an armed Guard's LogStore and StableStore
// methods; Pin, BytesFrom, BelowFloor, ReachedFloor, Whole, Err, Failed and Close
// are for everyone.
//
// The transport must refuse pipelines (raft.ErrPipelineReplicationNotSupported):
// raft's pipelineReplicate leaves a helper behind when it is ended, for which
// Shutdown().Error() would wait for ever. Heartbeats must go to the
// transport's Consumer, else it may be a transport's goroutine that ends.
//
// A read that hangs is reported but cannot be left: its goroutine ends once
// the disk answers, and Shutdown().Error() waits for it.
type Guard struct {
	store  Store
	opts   GuardOptions
	failed *failure
	armed  atomic.Bool
	closed atomic.Bool
	worker *worker // runs writes that the store does not bound; else nil
	sizer  sizer   // nil if the store does not count bytes
	keeper *keeper // of the floor; nil if there is none
	pins   pins

	closeOnce sync.Once
	closeErr  error
}

type sizer interface {
	BytesFrom(index uint64) int64
}

// NewGuard wraps store. Close closes both, and the floor.
func NewGuard(store Store, o GuardOptions) *Guard {
	o = o.withDefaults()
	g := &Guard{store: store, opts: o, failed: newFailure(o.Logger, o.OnFatal)}
	g.sizer, _ = store.(sizer)
	bounded, ok := store.(interface{ WritesBounded() bool })
	if o.Deadline > 0 && (!ok || !bounded.WritesBounded()) {
		g.worker = startWorker(g.failed)
	}
	if o.Floor != nil {
		g.keeper = startKeeper(o, g.failed)
	}
	if s, ok := store.(interface{ OnFailure(func(error)) }); ok {
		s.OnFailure(g.Fail)
	}
	return g
}

// Arm makes errors fatal from now on. Start does it, too.
func (g *Guard) Arm() { g.armed.Store(true) }

// Start arms the Guard and calls fn, which should call raft.NewRaft, on a
// goroutine of its own: NewRaft reads the store, panics at some errors, and
// starts goroutines before it returns. If the Guard ended fn, Start returns
// the fatal error; if fn panicked, an error that says so.
func (g *Guard) Start(fn func() error) error {
	g.Arm()
	result := make(chan error, 1)
	go func() {
		err, returned := error(nil), false
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raft log: panic: %v\n%s", p, debug.Stack())
			} else if !returned {
				err = cmp.Or(g.failed.err(), ErrClosed)
			}
			result <- err
		}()
		err = fn()
		returned = true
	}()
	return <-result
}

// Fail makes err the fatal error, unless there is one: for what the store's
// user finds, such as a state machine that failed.
func (g *Guard) Fail(err error) { g.failed.fail(err) }

// Failed is closed at the first fatal error.
func (g *Guard) Failed() <-chan struct{} { return g.failed.ch }

// Err is the fatal error, nil while there is none.
func (g *Guard) Err() error { return g.failed.err() }

// Close closes the store, if it can be closed, after the write under way.
// Close it after raft's shutdown: what raft still calls afterwards ends the
// calling goroutine, too. It may be called again and gives the same answer.
func (g *Guard) Close() error {
	g.closeOnce.Do(func() { g.closeErr = g.close() })
	return g.closeErr
}

func (g *Guard) close() error {
	g.closed.Store(true)
	if g.worker != nil {
		g.worker.stop()
	}
	var floorErr error
	if g.keeper != nil {
		floorErr = g.keeper.close()
	}
	closer, ok := g.store.(io.Closer)
	if !ok || errors.Is(g.failed.err(), ErrStalled) {
		return cmp.Or(g.failed.err(), floorErr)
	}
	if err := closer.Close(); err != nil {
		return err
	}
	return floorErr
}

// leave turns an error into what raft gets to see: nothing, once armed.
func (g *Guard) leave(op string, err error) error {
	if !g.closed.Load() && !errors.Is(err, ErrClosed) {
		if !g.armed.Load() {
			return err
		}
		err = g.failed.fail(fmt.Errorf("%s: %w", op, err))
	}
	if g.armed.Load() {
		runtime.Goexit()
	}
	return err
}

// ready ends the call when the Guard is closed or failed.
func (g *Guard) ready(op string) error {
	if g.closed.Load() {
		return g.leave(op, ErrClosed)
	}
	if err := g.failed.err(); err != nil {
		return g.leave(op, err)
	}
	return nil
}

// read calls fn, reporting it if it hangs.
func (g *Guard) read(op string, fn func() error) error {
	if err := g.ready(op); err != nil {
		return err
	}
	if g.opts.Deadline > 0 {
		watchdog := time.AfterFunc(g.opts.Deadline, func() { g.failed.fail(stalled(op, g.opts.Deadline)) })
		defer watchdog.Stop()
	}
	err := fn()
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || isKeyNotFound(err) {
		return err
	}
	return g.leave(op, err)
}

func isKeyNotFound(err error) bool { return err.Error() == ErrKeyNotFound.Error() }

// write calls fn, and leaves it behind if it hangs.
func (g *Guard) write(op string, fn func() error) error {
	if err := g.ready(op); err != nil {
		return err
	}
	var err error
	if g.worker != nil {
		err = g.worker.do(op, g.opts.Deadline, fn)
	} else {
		err = fn()
	}
	if err != nil {
		return g.leave(op, err)
	}
	return nil
}
