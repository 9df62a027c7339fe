package replkv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/replkv/replkv/internal/command"
)

// writer joins the operations of concurrent callers into batches of this
// member's session and gets them committed. A session is opened at each Open
// (member id, random boot id); its batches are numbered, their bytes never
// change, and a retry sends the same bytes, so each operation is applied once
// whatever is lost on the way.
type writer struct {
	db   *DB
	wake chan struct{} // capacity 1: the queue is not empty

	mu     sync.Mutex // protects the fields below
	queue  []*pendingOp
	bytes  int64 // of queue and of batches under way
	closed bool

	session command.SessionID // NoSession: to be opened
	opened  uint64            // sessions asked for since Open
	seq     uint64            // of the newest batch
	// open has the batches without an answer. Invariant: the low-water mark of a
	// new batch is below all of them, and its seq at most SessionWindow above:
	// one slow batch holds up the others once they are that far ahead.
	open  map[uint64]*openBatch
	under int           // batches of lost sessions still under way
	slot  chan struct{} // capacity batchesInFlight
}

const (
	// batchesInFlight of a session.
	batchesInFlight = 4
	// maxBatchOps bounds a batch, and with it what one entry makes apply do.
	maxBatchOps = 4096
)

// pendingOp is a caller's operation on its way.
type pendingOp struct {
	enc   []byte
	done  chan opAnswer // capacity 1
	batch *openBatch    // once sent; guarded by writer.mu
}

type opAnswer struct {
	res     command.OpResult
	err     error
	outcome Outcome // with err
}

// openBatch is a batch under way. It goes on while a caller waits for it.
type openBatch struct {
	session command.SessionID
	seq     uint64
	raw     []byte
	ops     []*pendingOp
	waiting int // callers
	cancel  context.CancelCauseFunc
}

func newWriter(db *DB) *writer {
	return &writer{db: db, wake: make(chan struct{}, 1), open: make(map[uint64]*openBatch),
		slot: make(chan struct{}, batchesInFlight)}
}

// maxBatchBytes bounds an encoded batch: the largest single operation fits.
func (c *Config) maxBatchBytes() int {
	return max(maxEntryBytes, c.MaxKeyBytes+c.MaxValueBytes+command.MaxBatchHeader+64)
}

// do commits one operation. The answer's err is nil, or says why with an
// outcome; the operation's own status is the caller's to read.
func (w *writer) do(ctx context.Context, op *command.Op) opAnswer {
	p := &pendingOp{enc: command.AppendOp(make([]byte, 0, command.OpLen(op)), op), done: make(chan opAnswer, 1)}
	if err := w.enqueue(p); err != nil {
		return opAnswer{err: err, outcome: OutcomeNotDone}
	}
	select {
	case a := <-p.done:
		return a
	case <-ctx.Done():
		return w.leave(p, context.Cause(ctx))
	case <-w.db.ctx.Done():
		return w.leave(p, w.db.stopped())
	}
}

func (w *writer) enqueue(p *pendingOp) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	if w.bytes+int64(len(p.enc)) > w.db.cfg.MaxInFlightBytes {
		return fmt.Errorf("%w: %d bytes of writes are under way", ErrOverloaded, w.bytes)
	}
	w.bytes += int64(len(p.enc))
	w.queue = append(w.queue, p)
	w.signal()
	return nil
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// leave gives up on p: not done if no batch has it, unknown otherwise, unless
// the answer came just now.
func (w *writer) leave(p *pendingOp, cause error) opAnswer {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case a := <-p.done:
		return a
	default:
	}
	if p.batch == nil {
		w.bytes -= int64(len(p.enc))
		w.queue = slices.DeleteFunc(w.queue, func(o *pendingOp) bool { return o == p })
		return opAnswer{err: cause, outcome: OutcomeNotDone}
	}
	if p.batch.waiting--; p.batch.waiting == 0 {
		p.batch.cancel(context.Canceled)
	}
	return opAnswer{err: cause, outcome: OutcomeUnknown}
}

// run forms batches until the store closes.
func (w *writer) run() {
	for {
		if !w.ready() {
			return
		}
		select {
		case <-w.wake:
		case <-w.db.ctx.Done():
			return
		}
		for w.db.ctx.Err() == nil {
			select {
			case w.slot <- struct{}{}:
			case <-w.db.ctx.Done():
				return
			}
			b := w.form()
			if b == nil {
				<-w.slot
				break
			}
			ctx, cancel := context.WithCancelCause(w.db.ctx)
			w.mu.Lock()
			b.cancel = cancel
			if b.waiting == 0 {
				cancel(context.Canceled)
			}
			w.mu.Unlock()
			w.db.background(func() {
				defer cancel(nil)
				w.send(ctx, b)
				<-w.slot
			})
			if !w.ready() {
				return
			}
		}
	}
}

// ready opens a session if there is none. False: the store closes.
func (w *writer) ready() bool {
	w.mu.Lock()
	has := w.session != command.NoSession
	w.mu.Unlock()
	for !has {
		var id command.SessionID
		if _, err := rand.Read(id[:]); err != nil {
			return false
		}
		// The ordinal rises with each start of the member and each session of a
		// start: the state machine opens none that is older than the newest.
		op := &command.Op{Kind: command.OpenSession, Session: id, Member: []byte(w.db.cfg.ID), Ordinal: w.nextOrdinal()}
		res, _, err := w.db.commit(w.db.ctx, unsessioned(op))
		if err != nil {
			if w.db.ctx.Err() != nil {
				return false
			}
			pause(w.db.ctx, nil)
			continue
		}
		if len(res.Ops) != 1 || res.Ops[0].Status != command.OK {
			w.db.log.Warn("no session: the cluster has seen a later start of this member; is its directory a copy, or restored from a backup?", "id", w.db.cfg.ID)
			pauseFor(w.db.ctx, nil, w.db.cfg.ElectionTimeout)
			continue
		}
		w.mu.Lock()
		w.session, w.seq = id, 0
		w.under += len(w.open)
		clear(w.open)
		w.mu.Unlock()
		return true
	}
	return true
}

func (w *writer) nextOrdinal() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	return w.db.id.start<<32 | w.opened
}

// form takes operations off the queue and makes a batch of them; nil if there
// are none, or no session.
func (w *writer) form() *openBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == command.NoSession {
		w.signal()
		return nil
	}
	if w.lowWaterLocked()+command.SessionWindow <= w.seq {
		return nil // the next answer signals
	}
	var ops []*pendingOp
	limit, size, n := w.db.cfg.maxBatchBytes(), command.MaxBatchHeader, 0
	for ; n < len(w.queue) && len(ops) < maxBatchOps; n++ {
		p := w.queue[n]
		if len(ops) > 0 && (size+len(p.enc) > limit || size > maxEntryBytes) {
			break
		}
		size += len(p.enc)
		ops = append(ops, p)
	}
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	if len(ops) == 0 {
		return nil
	}
	low := w.lowWaterLocked()
	w.seq++
	b := &openBatch{session: w.session, seq: w.seq, ops: ops, waiting: len(ops), cancel: func(error) {}}
	b.raw = command.AppendBatchHeader(make([]byte, 0, size), w.session, b.seq, low, len(ops))
	for _, p := range ops {
		b.raw = append(b.raw, p.enc...)
		p.batch = b
	}
	w.open[b.seq] = b
	return b
}

// lowWaterLocked is the seq up to which all batches formed so far are answered.
func (w *writer) lowWaterLocked() uint64 {
	low := w.seq
	for seq := range w.open {
		low = min(low, seq-1)
	}
	return low
}

// send gets b committed and answers its callers.
func (w *writer) send(ctx context.Context, b *openBatch) {
	res, maybe, err := w.db.commit(ctx, b.raw)
	if err == nil && len(res.Ops) != len(b.ops) {
		err, maybe = fmt.Errorf("%w: %d results for %d operations", ErrCorrupt, len(res.Ops), len(b.ops)), true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[b.seq] == b {
		delete(w.open, b.seq)
	} else {
		w.under-- // of an earlier session
	}
	if errors.Is(err, errSessionLost) {
		if w.session == b.session {
			w.session = command.NoSession
		}
		if !maybe {
			w.requeueLocked(b)
			return
		}
		err = ErrOutcomeUnknown
	}
	for i, p := range b.ops {
		w.bytes -= int64(len(p.enc))
		a := opAnswer{err: err}
		if err == nil {
			a.res = res.Ops[i]
		} else if !maybe {
			a.outcome = OutcomeNotDone
		}
		p.done <- a
	}
	w.signal()
}

// requeueLocked puts the operations of a batch that no state machine has applied
// or will apply (its session is gone for good) back in front.
func (w *writer) requeueLocked(b *openBatch) {
	for _, p := range b.ops {
		p.batch = nil
	}
	w.queue = append(b.ops, w.queue...)
	w.signal()
}

// close refuses new operations.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// drained says whether nothing is under way.
func (w *writer) drained() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) == 0 && len(w.open) == 0 && w.under == 0
}
