package replkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/lease"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/transport/peerpb"
)

// The leader's lessor, and the way of a member's questions to it.

// tendLeases has the lessor take charge once this member leads and has applied a
// command of its term, and so all that was committed before; and give up when it
// does not lead any more. It is called after each apply, and when the leader
// changes.
func (db *DB) tendLeases() {
	r := db.wlog.raft.Load()
	if r == nil {
		return
	}
	leads := func(term uint64) bool { return r.State() == raft.Leader && r.CurrentTerm() == term }
	has := db.lessor.Term() // before the state: who has begun a term has applied a command of it
	if has != 0 && !leads(has) {
		db.lessor.End(has)
	}
	term := db.state.State().CommandTerm
	if term == has || !leads(term) {
		return
	}
	db.state.WithLeases(func(table map[LeaseID]store.Lease) {
		leases := make([]lease.Lease, 0, len(table))
		for _, l := range table {
			leases = append(leases, lessorLease(l))
		}
		db.lessor.Begin(term, leases)
	})
}

func lessorLease(l store.Lease) lease.Lease {
	return lease.Lease{ID: l.ID, Generation: l.Generation, TTL: l.TTL, Remaining: l.Remaining, Keys: l.Hints}
}

// leaseChanged is store.Options.OnLease.
func (db *DB) leaseChanged(id LeaseID, l store.Lease, there bool) {
	l.ID = id
	db.lessor.Changed(lessorLease(l), there)
}

// decideLeases is lease.Log. The operations need no session: a second copy would
// find the lease gone, or be of another term.
func (db *DB) decideLeases(ctx context.Context, term uint64, ds []lease.Decision) ([]bool, error) {
	raw := command.AppendBatchHeader(nil, command.NoSession, 0, 0, len(ds))
	for _, d := range ds {
		op := command.Op{Kind: command.Renew, Lease: uint64(d.ID), Term: term, Generation: d.Generation, TTL: millisUp(d.Remaining)}
		if d.Revoke {
			op.Kind, op.TTL = command.Revoke, 0
		}
		raw = command.AppendOp(raw, &op)
	}
	a := db.entries.submit(ctx, raw)
	if a.err != nil {
		return nil, a.err
	}
	done := make([]bool, len(a.result.Ops))
	for i := range done {
		done[i] = a.result.Ops[i].Status == command.OK
	}
	return done, nil
}

const (
	// maxLeaseIDs bounds a request to the leader.
	maxLeaseIDs = 4096
	// maxLeaseCalls bounds the callers that wait on this member; beyond it
	// ErrOverloaded.
	maxLeaseCalls = 64 << 10
)

// leaseCalls joins the questions of concurrent callers: while one request to the
// leader is under way, the next forms. A caller joins only a request that was not
// sent.
type leaseCalls struct {
	db        *DB
	keepAlive bool
	wake      chan struct{} // capacity 1: somebody waits

	mu    sync.Mutex // protects the field below
	queue []*leaseCall
}

type leaseCall struct {
	id    LeaseID
	until time.Time        // when the caller gives up
	done  chan leaseAnswer // capacity 1
	left  bool             // the caller has; guarded by leaseCalls.mu
}

type leaseAnswer struct {
	state lease.State
	err   error
}

func (c *leaseCalls) init(db *DB, keepAlive bool) {
	c.db, c.keepAlive, c.wake = db, keepAlive, make(chan struct{}, 1)
}

func (c *leaseCalls) do(ctx, limit context.Context, id LeaseID) (lease.State, error) {
	p := &leaseCall{id: id, done: make(chan leaseAnswer, 1)}
	var ok bool
	if p.until, ok = ctx.Deadline(); !ok {
		p.until, _ = limit.Deadline()
	}
	if err := c.add(p); err != nil {
		return lease.State{}, err
	}
	select {
	case a := <-p.done:
		return a.state, a.err
	case <-ctx.Done():
	case <-limit.Done():
	}
	c.leave(p)
	return lease.State{}, c.db.ended(ctx, limit)
}

func (c *leaseCalls) add(p *leaseCall) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= maxLeaseCalls {
		c.db.counts.overloaded.Add(1)
		return fmt.Errorf("%w: %d calls about leases wait", ErrOverloaded, len(c.queue))
	}
	c.queue = append(c.queue, p)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *leaseCalls) leave(p *leaseCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.left = true
	c.queue = slices.DeleteFunc(c.queue, func(o *leaseCall) bool { return o == p })
}

// take takes as many as a request holds, and says how long the most patient
// waits.
func (c *leaseCalls) take() (calls []*leaseCall, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), maxLeaseIDs)
	calls = slices.Clone(c.queue[:n])
	c.queue = slices.Delete(c.queue, 0, n)
	for _, p := range calls {
		if p.until.After(until) {
			until = p.until
		}
	}
	return calls, until
}

// run asks until the store closes.
func (c *leaseCalls) run() {
	for {
		select {
		case <-c.wake:
		case <-c.db.ctx.Done():
			return
		}
		for {
			calls, until := c.take()
			if len(calls) == 0 {
				break
			}
			c.ask(calls, until)
		}
	}
}

func (c *leaseCalls) ask(calls []*leaseCall, until time.Time) {
	ctx, cancel := context.WithDeadline(c.db.ctx, until)
	defer cancel()
	ids := make([]LeaseID, len(calls))
	for i, p := range calls {
		ids[i] = p.id
	}
	states, err := c.db.askLeases(ctx, c.keepAlive, ids)
	var pending []*leaseCall
	for i, p := range calls {
		a := leaseAnswer{err: err}
		if err == nil {
			if a.state = states[i]; a.state.Pending {
				pending = append(pending, p)
				continue
			}
		}
		p.done <- a
	}
	c.again(pending)
}

// again queues calls that have no answer yet, while their callers wait.
func (c *leaseCalls) again(calls []*leaseCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range calls {
		if !p.left {
			c.queue = append(c.queue, p)
		}
	}
}

// askLeases asks whoever leads, again and again until it answers or ctx ends.
func (db *DB) askLeases(ctx context.Context, keepAlive bool, ids []LeaseID) ([]lease.State, error) {
	for {
		reign := db.leads.current()
		states, err := db.askLeasesOnce(ctx, reign, keepAlive, ids)
		if err == nil {
			return states, nil
		}
		switch {
		case db.ctx.Err() != nil:
			return nil, db.stopped()
		case ctx.Err() != nil:
			return nil, ctxError(ctx, err)
		case errors.Is(err, ErrInvalidArgument):
			return nil, err
		}
		pause(ctx, reign.Done())
	}
}

func (db *DB) askLeasesOnce(ctx, reign context.Context, keepAlive bool, ids []LeaseID) ([]lease.State, error) {
	id, addr, self := db.leader()
	switch {
	case self:
		return db.leasesHere(ctx, keepAlive, ids)
	case id == "":
		return nil, ErrNoLeader
	}
	ctx, cancel := during(ctx, reign)
	defer cancel()
	req := &peerpb.LeasesRequest{KeepAlive: keepAlive, Ids: make([]int64, len(ids))}
	for i, id := range ids {
		req.Ids[i] = int64(id)
	}
	resp, err := db.trans.Leases(ctx, id, addr, req)
	db.reached(id, nonCtx(ctx, err))
	if err != nil {
		return nil, err
	}
	if len(resp.GetLeases()) != len(ids) {
		return nil, fmt.Errorf("%w: %d answers about %d leases", ErrCorrupt, len(resp.GetLeases()), len(ids))
	}
	out := make([]lease.State, len(ids))
	for i, l := range resp.GetLeases() {
		out[i] = lease.State{TTL: time.Duration(l.GetTtlMs()) * time.Millisecond, Remaining: time.Duration(l.GetRemainingMs()) * time.Millisecond,
			Pending: l.GetPending()}
	}
	return out, nil
}

// leasesHere asks this member's lessor, after a confirmation, begun after the
// call, that it leads. What it knows holds: a grant or revoke that was acknowledged
// before was applied here, since this member led then, or began with it. Only of leases
// that it does not know is it asked again once all that was committed before is applied:
// while apply takes long, leases that are kept alive must not end.
func (db *DB) leasesHere(ctx context.Context, keepAlive bool, ids []LeaseID) ([]lease.State, error) {
	limit := db.limit(ctx)
	b, err := db.reads.join(ctx, limit)
	if err != nil {
		return nil, err
	}
	ask := func(ids []LeaseID) ([]lease.State, error) {
		if keepAlive {
			return db.lessor.KeepAlive(ctx, b.term, ids)
		}
		return db.lessor.Look(b.term, ids)
	}
	states, err := ask(ids)
	if err == nil && !slices.ContainsFunc(states, func(s lease.State) bool { return s == lease.State{} }) {
		return states, nil
	}
	if err := db.applied.wait(ctx, limit, b.index); err != nil {
		return nil, err
	}
	return ask(ids)
}

// Leases serves the questions of another member.
func (h peerHandler) Leases(ctx context.Context, req *peerpb.LeasesRequest) (*peerpb.LeasesResponse, error) {
	if len(req.GetIds()) > maxLeaseIDs {
		return nil, h.db.wrap("Leases", OutcomeNotDone, fmt.Errorf("%w: %d leases, a request is about %d", ErrInvalidArgument, len(req.GetIds()), maxLeaseIDs))
	}
	if h.db.raft.State() != raft.Leader {
		return nil, h.notLeader("Leases")
	}
	ids := make([]LeaseID, len(req.GetIds()))
	for i, id := range req.GetIds() {
		ids[i] = LeaseID(id)
	}
	states, err := h.db.leasesHere(ctx, req.GetKeepAlive(), ids)
	if err != nil {
		return nil, h.db.wrap("Leases", kv.OutcomeUnknown, err)
	}
	out := &peerpb.LeasesResponse{Leases: make([]*peerpb.LeaseState, len(states))}
	for i, s := range states {
		out.Leases[i] = &peerpb.LeaseState{TtlMs: s.TTL.Milliseconds(), RemainingMs: s.Remaining.Milliseconds(), Pending: s.Pending}
	}
	return out, nil
}
