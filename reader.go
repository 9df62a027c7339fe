package replkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reads serves the read index (Ongaro's thesis, section 6.4): an index at or
// above every write acknowledged before the call, after waiting for which a
// local read is linearizable. Readers that wait at the same time share a
// batch, and a batch one round: on the leader a confirmation by the voters, on
// a follower one request to the leader.
type reads struct {
	db    *DB
	fresh freshness
	wake  chan struct{} // capacity 1: a reader waits
	conf  confirmer

	mu     sync.Mutex // protects the fields below
	next   *readBatch // joined by new readers; nil if none waits
	closed bool       // no round will begin
}

// readBatch is a set of readers with one answer. Nobody joins it once its round
// has begun.
type readBatch struct {
	done       chan struct{} // closed by reads.end
	readAnswer               // valid after done

	// Protected by reads.mu.
	ended   bool
	readers int         // that have joined
	until   time.Time   // when the last of them would give up
	limit   time.Time   // the first end of a reader's limit; zero: none has one
	unlimit func() bool // forgets it
}

// readAnswer is what a round found out.
type readAnswer struct {
	index, term uint64
	err         error
	// over: none, since one of the readers has waited for as long as it may, or the
	// store stops. The others join another batch.
	over bool
}

func newReads(db *DB) *reads {
	r := &reads{db: db, wake: make(chan struct{}, 1)}
	r.conf.init(db)
	return r
}

// join waits for a batch that had not begun when join was called.
func (r *reads) join(ctx, limit context.Context) (*readBatch, error) {
	for {
		b := r.enter(ctx, limit)
		// The limit ends the batch: if each reader waited for it here, all would lock
		// one channel, and a Get cost a tenth more.
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, r.db.ended(ctx, limit)
		}
		switch {
		case !b.over:
			return b, b.err
		case ctx.Err() != nil || limit.Err() != nil || r.db.ctx.Err() != nil:
			return nil, r.db.ended(ctx, limit)
		}
	}
}

// enter joins the batch that waits, or a new one.
func (r *reads) enter(ctx, limit context.Context) *readBatch {
	most, limited := limit.Deadline()
	until, ok := ctx.Deadline()
	if !ok {
		until = most
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.next
	if b == nil {
		b = &readBatch{done: make(chan struct{})}
		if r.closed {
			b.over = true
			close(b.done)
			return b
		}
		r.next = b
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	b.readers++
	if until.After(b.until) {
		b.until = until
	}
	if limited && (b.unlimit == nil || most.Before(b.limit)) {
		if b.unlimit != nil {
			b.unlimit()
		}
		b.limit, b.unlimit = most, context.AfterFunc(limit, func() { r.end(b, readAnswer{over: true}) })
	}
	return b
}

// end tells a batch's readers its answer, unless they have one.
func (r *reads) end(b *readBatch, a readAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.ended {
		return
	}
	b.ended, b.readAnswer = true, a
	if r.next == b {
		r.next = nil
	}
	if b.unlimit != nil {
		b.unlimit()
	}
	close(b.done)
}

// barrier waits until this member has applied everything that was acknowledged
// before the call.
func (r *reads) barrier(ctx, limit context.Context) error {
	b, err := r.join(ctx, limit)
	if err != nil {
		return err
	}
	return r.db.applied.wait(ctx, limit, b.index)
}

// run makes one round after the other.
func (r *reads) run() {
	defer r.close()
	for {
		select {
		case <-r.wake:
		case <-r.db.ctx.Done():
			return
		}
		r.settle()
		if b := r.take(); b != nil {
			r.db.counts.readRounds.Add(1)
			r.end(b, r.round(b))
		}
	}
}

// take closes the batch that waits, if one does: who comes now waits for the next.
func (r *reads) take() *readBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.next
	r.next = nil
	return b
}

func (r *reads) close() {
	r.mu.Lock()
	r.closed = true
	b := r.next
	r.mu.Unlock()
	if b != nil {
		r.end(b, readAnswer{over: true})
	}
}

// settle yields as long as readers join: those whose answers have just come are
// about to ask again.
func (r *reads) settle() {
	settle(func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.next == nil {
			return 0
		}
		return r.next.readers
	})
}

// round answers a batch, trying again while a leader may yet be found.
func (r *reads) round(b *readBatch) (a readAnswer) {
	until := b.until
	if until.IsZero() {
		until = time.Now().Add(r.db.cfg.RequestTimeout)
	}
	ctx, cancel := context.WithDeadline(r.db.ctx, until)
	defer cancel()
	for {
		reign := r.db.leads.current()
		asked := time.Now()
		id, addr, self := r.db.leader()
		switch {
		case self:
			a.index, a.term, a.err = r.conf.confirm(ctx)
		case id == "":
			a.err = ErrNoLeader
		default:
			rctx, done := during(ctx, reign)
			a.index, a.term, a.err = r.db.trans.ReadIndex(rctx, id, addr)
			r.db.reached(id, nonCtx(rctx, a.err))
			done()
		}
		if a.err == nil {
			r.fresh.note(readPoint{asked, a.index}, r.db.state.State().Index)
			return a
		}
		if r.db.ctx.Err() != nil {
			return readAnswer{over: true} // that its request to the leader was canceled says nothing
		}
		if errors.Is(a.err, ErrClosed) {
			a.err = ErrNoLeader // the leader closed, not this member
		}
		if ctx.Err() != nil || r.gone(b) {
			return a
		}
		pause(ctx, reign.Done())
	}
}

// gone says whether a batch's readers wait no longer.
func (r *reads) gone(b *readBatch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return b.ended
}

// confirmer shows that this member leads, by asking the voters after a batch
// closed. raft's VerifyLeader will not do: it counts answers to requests that
// were sent before the call.
type confirmer struct {
	db *DB

	mu sync.Mutex // protects the fields below
	// round counts the batches. A peer's ask is stamped with the round at the
	// moment it is sent: an answer counts for the rounds up to its stamp.
	round uint64
	peers map[string]*confirmPeer
	acked chan struct{} // closed and replaced at each answer
}

// confirmPeer asks one voter, one request at a time: a dead peer costs one
// waiting request, not one per round.
type confirmPeer struct {
	id    string
	wake  chan struct{}      // capacity 1
	stop  context.CancelFunc // once it is no voter any more
	addr  string             // guarded by confirmer.mu, as the rest
	stamp uint64             // the newest round that the peer's newest answer counts for
	term  uint64             // that answer's
	voter bool               // that answer's
	plain bool               // it does not know Confirm: a plain Jille node
}

func (c *confirmer) init(db *DB) {
	c.db, c.peers, c.acked = db, make(map[string]*confirmPeer), make(chan struct{})
}

// confirm returns the commit index as it was after confirm began, once a
// quorum of voters, asked after that, is still in this leader's term.
func (c *confirmer) confirm(ctx context.Context) (index, term uint64, err error) {
	db := c.db
	term = db.raft.CurrentTerm()
	if st := db.state.State(); st.CommandTerm != term {
		return 0, 0, fmt.Errorf("%w: the epoch of term %d is not applied yet", ErrNoLeader, term)
	}
	index = db.raft.CommitIndex()
	if db.raft.State() != raft.Leader || db.raft.CurrentTerm() != term {
		return 0, 0, ErrNoLeader
	}
	voters := db.voters()
	round := c.begin(voters)
	timeout := time.NewTimer(db.cfg.ElectionTimeout)
	defer timeout.Stop()
	for {
		acked, yes, stale := c.count(voters, round, term)
		switch {
		case stale:
			return 0, 0, fmt.Errorf("%w: term %d is over", ErrNoLeader, term)
		case yes > len(voters)/2:
			return index, term, nil
		}
		select {
		case <-acked:
		case <-timeout.C:
			return 0, 0, fmt.Errorf("%w: %d of %d voters confirmed term %d", ErrNoLeader, yes, len(voters), term)
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
	}
}

// begin opens a round and has all other voters asked.
func (c *confirmer) begin(voters []raft.Server) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	c.keepLocked(voters)
	for _, v := range voters {
		if string(v.ID) == c.db.cfg.ID {
			continue
		}
		p := c.peers[string(v.ID)]
		if p == nil {
			p = &confirmPeer{id: string(v.ID), wake: make(chan struct{}, 1)}
			ctx, stop := context.WithCancel(c.db.ctx)
			p.stop, c.peers[p.id] = stop, p
			c.db.background(func() { c.ask(ctx, p) })
		}
		p.addr = string(v.Address)
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return c.round
}

// keepLocked asks nobody any more but the voters. If another round asks by an older
// configuration at this moment, it lacks an answer, and is made again.
func (c *confirmer) keepLocked(voters []raft.Server) {
	for id, p := range c.peers {
		if !slices.ContainsFunc(voters, func(v raft.Server) bool { return string(v.ID) == id }) {
			p.stop()
			delete(c.peers, id)
		}
	}
}

// count returns how many of the voters, this member among them if it is one,
// have confirmed the term in this round, and whether one has seen a newer.
func (c *confirmer) count(voters []raft.Server, round, term uint64) (acked <-chan struct{}, yes int, stale bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range voters {
		if string(v.ID) == c.db.cfg.ID {
			yes++
			continue
		}
		if p := c.peers[string(v.ID)]; p != nil && p.stamp >= round {
			if p.term > term {
				stale = true
			}
			if p.term == term && p.voter {
				yes++
			}
		}
	}
	return c.acked, yes, stale
}

// ask sends Confirm to one peer whenever a round wants it, until ctx ends.
func (c *confirmer) ask(ctx context.Context, p *confirmPeer) {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		stamp, addr := c.round, p.addr // taken before the send
		c.mu.Unlock()
		term, voter, err := c.db.trans.Confirm(ctx, p.id, addr, c.db.raft.CurrentTerm())
		if status.Code(err) == codes.Unimplemented {
			c.plain(p)
			continue
		}
		c.db.reached(p.id, err)
		if err == nil {
			c.answer(p, stamp, term, voter)
		}
	}
}

func (c *confirmer) answer(p *confirmPeer, stamp, term uint64, voter bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stamp < p.stamp {
		return
	}
	p.stamp, p.term, p.voter = stamp, term, voter
	close(c.acked)
	c.acked = make(chan struct{})
}

// plain has raft send heartbeats to a peer without Confirm; their answers count
// (heartbeat). Whether raft takes itself for verified does not.
func (c *confirmer) plain(p *confirmPeer) {
	c.mu.Lock()
	p.plain = true
	c.mu.Unlock()
	c.db.raft.VerifyLeader()
}

// stampFor returns the present round, and a peer without Confirm to whom a
// heartbeat is about to be sent; nil if it knows Confirm.
func (c *confirmer) stampFor(id string) (p *confirmPeer, stamp uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p = c.peers[id]; p == nil || !p.plain {
		return nil, 0
	}
	return p, c.round
}

// voters returns the voters of the latest configuration.
func (db *DB) voters() []raft.Server {
	var out []raft.Server
	for _, s := range db.configuration().Servers {
		if s.Suffrage == raft.Voter {
			out = append(out, s)
		}
	}
	return out
}
