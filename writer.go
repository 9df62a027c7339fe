package replkv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
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
	idle sync.Pool     // of *pendingOp

	mu     sync.Mutex // protects the fields below
	queue  []*pendingOp
	queued int64 // bytes of queue
	bytes  int64 // of queue and of batches under way
	closed bool

	session command.SessionID // NoSession: to be opened
	opened  uint64            // ordinal: sessions asked for since Open
	seq     uint64            // of the newest batch
	// open has the batches without an answer. Invariant: the low-water mark of a
	// new batch is below all of them, and its seq at most SessionWindow above:
	// one slow batch holds up the others once they are that far ahead.
	open      map[uint64]*openBatch
	under     int           // batches of lost sessions still under way
	answering int           // batches that ended, whose callers are being told
	awaited   int           // operations of all these batches
	slot      chan struct{} // capacity batchesInFlight
}

const (
	// batchesInFlight of a session, at most: see form.
	batchesInFlight = 2
	// fewOps under way hold up nobody: a few callers go each at their own pace.
	fewOps = 4
	// maxBatchOps bounds a batch, and with it what one entry makes apply do.
	maxBatchOps = 4096
)

// pendingOp is a caller's operation on its way. It is used again once its caller
// has the answer: nobody else knows it then.
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

// maxBatchBytes bounds an encoded batch of this member: the largest single operation
// fits.
func (c *Config) maxBatchBytes() int {
	return max(maxEntryBytes, c.MaxKeyBytes+c.MaxValueBytes+batchOverhead)
}

// mostBatchBytes bounds a batch of another member, whose Config may allow more than
// this one's: limits are changed on one member after the other.
const mostBatchBytes = mostKeyBytes + mostValueBytes + batchOverhead

// batchOverhead is what a batch has beside key and value of its only operation.
const batchOverhead = command.MaxBatchHeader + 64

// do commits one operation. The answer's err is nil, or says why with an
// outcome; the operation's own status is the caller's to read.
func (w *writer) do(ctx, limit context.Context, op *command.Op) opAnswer {
	p := w.pending(op)
	if err := w.enqueue(p); err != nil {
		return opAnswer{err: err, outcome: OutcomeNotDone}
	}
	select {
	case a := <-p.done:
		w.free(p)
		return a
	case <-ctx.Done():
	case <-limit.Done():
	}
	return w.leave(p, w.db.ended(ctx, limit))
}

// maxPooledOp is how large a buffer is kept for the next operation.
const maxPooledOp = 16 << 10

func (w *writer) pending(op *command.Op) *pendingOp {
	p, ok := w.idle.Get().(*pendingOp)
	if !ok {
		p = &pendingOp{done: make(chan opAnswer, 1)}
	}
	p.enc = command.AppendOp(slices.Grow(p.enc[:0], command.OpLen(op)), op)
	return p
}

// free is for the caller, when it has received the answer.
func (w *writer) free(p *pendingOp) {
	if p.batch = nil; cap(p.enc) > maxPooledOp {
		p.enc = nil
	}
	w.idle.Put(p)
}

func (w *writer) enqueue(p *pendingOp) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	if w.bytes+int64(len(p.enc)) > w.db.cfg.MaxInFlightBytes {
		w.db.counts.overloaded.Add(1)
		return fmt.Errorf("%w: %d bytes of writes are under way", ErrOverloaded, w.bytes)
	}
	w.bytes += int64(len(p.enc))
	w.queued += int64(len(p.enc))
	if w.queue = append(w.queue, p); w.worthLocked() {
		w.signal()
	}
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
		w.queued -= int64(len(p.enc))
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
			w.settle()
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

// settle yields as long as the queue grows. Callers whose answers have just come
// are about to queue their next operations: let them, or the first of them go
// alone. It costs a lone caller next to nothing.
func (w *writer) settle() {
	settle(func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.queue)
	})
}

// settle yields until count does not rise any more.
func settle(count func() int) {
	for before := -1; ; {
		runtime.Gosched()
		n := count()
		if n <= before {
			return
		}
		before = n
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
		if !w.db.joined() {
			if w.db.ctx.Err() != nil {
				return false
			}
			pause(w.db.ctx, nil)
			continue
		}
		op, err := w.opening(id)
		if err != nil {
			w.db.fatal(err)
			return false
		}
		res, _, err := w.db.commit(w.db.ctx, unsessioned(op))
		if err != nil {
			if w.db.ctx.Err() != nil {
				return false
			}
			pause(w.db.ctx, nil)
			continue
		}
		if err := openingError(w.db.cfg.ID, res); err != nil {
			w.db.refuseIf(err)
			w.db.log.Warn("no session", "error", err)
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

// opening opens a session, and makes this start known to all members. Its
// ordinal rises with each session of a start: the state machine opens none that
// is older than the newest.
func (w *writer) opening(id command.SessionID) (*command.Op, error) {
	c, err := w.db.proof.claim()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	return &command.Op{Kind: command.OpenSession, Session: id, Member: []byte(w.db.cfg.ID), Ordinal: w.opened,
		Incarnation: c.Incarnation, Since: c.Since, Starts: c.Starts}, err
}

// openingError says why a session was not opened; nil if it was.
func openingError(id string, res *command.BatchResult) error {
	if len(res.Ops) != 1 {
		return fmt.Errorf("%w: %d results for one opening", ErrCorrupt, len(res.Ops))
	}
	switch res.Ops[0].Status {
	case command.OK:
		return nil
	case command.RemovedMember:
		return fmt.Errorf("%w: %s; to have it back, give it an empty directory and let it join", ErrRemoved, id)
	case command.OtherIdentity:
		return fmt.Errorf("%w: a later start of %s is known, or another directory: this one is a copy, or was restored from a backup", ErrStaleIdentity, id)
	}
	return fmt.Errorf("opening refused with status %d", res.Ops[0].Status)
}

// worthLocked says whether what is queued should be sent now. An entry costs as
// much as twenty operations, so what comes while others are under way waits for
// their answer, and goes with what their callers want next. Unless those are few,
// or it fills an entry.
//
// Measured: 512 callers come in batches of 490 instead of 235, and a sixth more
// of them in a second. Rejected: a second batch if it is larger than the first by
// some factor; whoever is divided once then stays so for long.
func (w *writer) worthLocked() bool {
	return len(w.queue) > 0 && (w.awaited <= fewOps || w.queued >= maxEntryBytes)
}

// form takes operations off the queue and makes a batch of them; nil if it is not
// worth it, or there is no session. Who is left in the queue waits for the signal
// of the next answer, or of an operation that makes it worth it.
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
	if !w.worthLocked() {
		return nil
	}
	limit, size, n := w.db.cfg.maxBatchBytes(), command.MaxBatchHeader, 0
	for ; n < min(len(w.queue), maxBatchOps); n++ {
		op := len(w.queue[n].enc)
		if n > 0 && (size+op > limit || size > maxEntryBytes) {
			break
		}
		size += op
	}
	ops := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	low := w.lowWaterLocked()
	w.seq++
	b := &openBatch{session: w.session, seq: w.seq, ops: ops, waiting: len(ops), cancel: func(error) {}}
	b.raw = command.AppendBatchHeader(make([]byte, 0, size), w.session, b.seq, low, len(ops))
	for _, p := range ops {
		b.raw = append(b.raw, p.enc...)
		w.queued -= int64(len(p.enc))
		p.batch = b
	}
	w.open[b.seq] = b
	w.awaited += len(ops)
	w.db.counts.batches.Add(1)
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
	if err, again := w.ended(b, maybe, err); !again {
		b.answer(res, maybe, err)
		w.mu.Lock()
		w.answering--
		w.awaited -= len(b.ops)
		w.signal() // now that all have been told, they come back together
		w.mu.Unlock()
	}
}

// answer tells the callers, who may be gone. Without the writer's lock: they
// come back with their next operations at once.
func (b *openBatch) answer(res *command.BatchResult, maybe bool, err error) {
	for i, p := range b.ops {
		a := opAnswer{err: err}
		if err == nil {
			a.res = res.Ops[i]
		} else if !maybe {
			a.outcome = OutcomeNotDone
		}
		p.done <- a // p may be another's now
	}
}

// ended takes a batch out of those under way. Again says that its operations are
// queued anew.
func (w *writer) ended(b *openBatch, maybe bool, err error) (_ error, again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signal()
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
			return nil, true
		}
		err = ErrOutcomeUnknown
	}
	for _, p := range b.ops {
		w.bytes -= int64(len(p.enc))
	}
	w.answering++
	return err, false
}

// requeueLocked puts the operations of a batch that no state machine has applied
// or will apply (its session is gone for good) back in front.
func (w *writer) requeueLocked(b *openBatch) {
	w.awaited -= len(b.ops)
	for _, p := range b.ops {
		p.batch = nil
		w.queued += int64(len(p.enc))
	}
	w.queue = append(b.ops, w.queue...)
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
	return len(w.queue) == 0 && len(w.open) == 0 && w.under+w.answering == 0
}
