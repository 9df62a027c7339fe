package replkv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/store"
)

// entryQueue joins encoded batches, this member's and those forwarded to it,
// into raft entries. A few entries are in flight at once, so that the next
// forms while the last one is being synced; a lone batch never waits.
type entryQueue struct {
	db *DB

	mu      sync.Mutex // protects the fields below
	queue   []*queuedBatch
	bytes   int64 // of queue
	waiting *sync.Cond
	closed  bool
	flying  int // entries handed to raft and not answered

	// transfer is since when raft refuses entries for a hand-over; nil: it does not. A
	// time.Time and not a number, since the wall clock may be set meanwhile.
	transfer atomic.Pointer[time.Time]
}

const (
	// maxEntryBytes is where an entry is full. A larger batch goes alone.
	// Why not smaller: raft's cost is per entry. Why not larger: an entry is
	// synced and sent as a whole, and a batch behind it waits.
	maxEntryBytes = 512 << 10
	// entriesInFlight is the number of workers: one entry is synced and sent
	// while the next forms. More make smaller entries, and raft's cost is per entry.
	entriesInFlight = 2
	// enqueueTimeout is how long raft's main loop may take to accept an entry.
	enqueueTimeout = 2 * time.Second
)

type queuedBatch struct {
	raw  []byte
	done chan batchAnswer // capacity 1
}

// batchAnswer is what became of a batch.
type batchAnswer struct {
	result *command.BatchResult
	index  uint64
	// err with notDone: it was not proposed and never will be by this attempt.
	// err without: unknown.
	err     error
	notDone bool
}

func newEntryQueue(db *DB) *entryQueue {
	q := &entryQueue{db: db}
	q.waiting = sync.NewCond(&q.mu)
	return q
}

// submit proposes a batch on this member, which should lead.
func (q *entryQueue) submit(ctx context.Context, raw []byte) batchAnswer {
	b := &queuedBatch{raw: raw, done: make(chan batchAnswer, 1)}
	if err := q.add(b); err != nil {
		return batchAnswer{err: err, notDone: true}
	}
	select {
	case a := <-b.done:
		return a
	case <-ctx.Done():
		return batchAnswer{err: context.Cause(ctx), notDone: q.remove(b)}
	case <-q.db.ctx.Done():
		return batchAnswer{err: ErrClosed, notDone: q.remove(b)}
	}
}

func (q *entryQueue) add(b *queuedBatch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if q.bytes+int64(len(b.raw)) > q.db.cfg.MaxInFlightBytes {
		q.db.counts.overloaded.Add(1)
		return fmt.Errorf("%w: %d bytes wait for the log", ErrOverloaded, q.bytes)
	}
	q.queue = append(q.queue, b)
	q.bytes += int64(len(b.raw))
	q.waiting.Signal()
	return nil
}

// remove takes a batch back, if no worker has it yet.
func (q *entryQueue) remove(b *queuedBatch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range q.queue {
		if x == b {
			q.queue = append(q.queue[:i], q.queue[i+1:]...)
			q.bytes -= int64(len(b.raw))
			return true
		}
	}
	return false
}

// take waits for batches and returns as many as an entry holds; nil once the
// queue is closed.
func (q *entryQueue) take() []*queuedBatch {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.waiting.Wait()
	}
	if q.closed {
		return nil
	}
	n, size := 0, 0
	for n < len(q.queue) && (n == 0 || size+len(q.queue[n].raw) <= maxEntryBytes) {
		size += len(q.queue[n].raw)
		n++
	}
	out := q.queue[:n:n]
	q.queue = q.queue[n:]
	if len(q.queue) == 0 {
		q.queue = nil
	}
	q.bytes -= int64(size)
	q.flying++
	return out
}

// close refuses new batches and ends the workers. Queued batches are answered
// by their submitters' ctx.
func (q *entryQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.waiting.Broadcast()
}

// inFlight returns how many entries raft has not answered.
func (q *entryQueue) inFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flying
}

// fly counts what is handed to raft, and answered.
func (q *entryQueue) fly(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying += n
}

// work proposes entries until the queue is closed.
func (q *entryQueue) work() {
	for {
		batches := q.take()
		if batches == nil {
			return
		}
		began := time.Now()
		q.propose(batches)
		q.fly(-1)
		if p := q.db.pace(time.Since(began)); p > 0 {
			pauseFor(q.db.ctx, nil, p)
		}
	}
}

func (q *entryQueue) propose(batches []*queuedBatch) {
	env := command.Envelope{TimeMillis: unixMillis(q.db.cfg.edges.Now()), Batches: make([][]byte, len(batches))}
	size := command.EnvelopeOverhead(len(batches))
	for i, b := range batches {
		env.Batches[i] = b.raw
		size += len(b.raw)
	}
	q.db.counts.entries.Add(1)
	q.db.counts.entryBytes.Add(uint64(size))
	future := q.db.raft.Apply(command.AppendEnvelope(make([]byte, 0, size), env), enqueueTimeout)
	answer := batchAnswer{err: future.Error()}
	q.watchTransfer(answer.err)
	if definitelyNotDone(answer.err) {
		// By a name that travels: raft's own errors have none, and another member would
		// not know what to make of one.
		answer.err, answer.notDone = fmt.Errorf("%w: %w", ErrNoLeader, answer.err), true
	}
	var results []*command.BatchResult
	if answer.err == nil {
		answer.index = future.Index()
		res, ok := future.Response().(store.Result)
		if !ok || len(res.Batches) != len(batches) {
			answer.err = fmt.Errorf("entry %d has no result", answer.index)
		}
		results = res.Batches
	}
	for i, b := range batches {
		a := answer
		if a.err == nil {
			a.result = results[i]
		}
		b.done <- a
	}
}

// errStuck: a leader that hands over refuses all entries, and raft has been seen
// not to notice that the hand-over failed (hashicorp/raft#696).
var errStuck = errors.New("raft is stuck in a hand-over of leadership")

// watchTransfer stops a leader that does not come out of a hand-over, which
// takes an election timeout at most: the others elect another.
func (q *entryQueue) watchTransfer(err error) {
	if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		q.transfer.Store(nil)
		return
	}
	now := time.Now()
	if began := q.transfer.Load(); began == nil {
		q.transfer.CompareAndSwap(nil, &now)
	} else if now.Sub(*began) > 10*q.db.cfg.ElectionTimeout && q.db.raft.State() == raft.Leader {
		q.db.fatal(errStuck)
	}
}

// definitelyNotDone tells the errors of raft after which an entry cannot be in
// any log. All others are unknown, ErrLeadershipLost and ErrRaftShutdown too:
// the entry may be in a log and commit later.
func definitelyNotDone(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress)
}
