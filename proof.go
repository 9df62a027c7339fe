package replkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/transport"
)

// proof decides whether this member may vote and campaign. A voter promises
// that it still has what it acknowledged; a directory that replaces a lost one,
// or has lost the end of its log, would break the promise, and committed writes
// with it.
//
// Invariant: a member that is not whole takes no part in elections, whoever
// asks. It becomes whole once an opening of a session that it proposed in this
// start is in its own applied state: a leader that was elected without its vote
// appended that entry after everything this member ever acknowledged, so all of
// that which can be committed is now in its log.
//
// At the birth of a cluster there is no such leader. There a first member also
// becomes whole when a majority of the first members, itself included, hold
// nothing but what the cluster began with, and never held more: nobody can have committed anything with a predecessor of this
// directory, unless just those members never heard of it (see guarantees.md).
type proof struct {
	db    *DB
	whole atomic.Bool
	done  atomic.Bool   // this start is known to the cluster
	dirty chan struct{} // capacity 1: the table of members is to be made durable

	doubts sync.Map // member id -> when it first refused us, without an answer since

	mu  sync.Mutex // protects why, and the identity of db
	why string     // what keeps it from being whole
}

// lost is told at Open, before anything is mended, what the directory has lost.
func (p *proof) lost(what string) error {
	db := p.db
	p.mu.Lock()
	defer p.mu.Unlock()
	if db.onlyVoter() {
		// Nobody else has it. The floor is all that knows.
		if db.floorFound {
			return fmt.Errorf("%w: acknowledged data is gone from %s, and there is no other voter: %s; restore a backup, or delete the file %s to go on without",
				ErrCorrupt, db.cfg.Dir, what, floorName)
		}
		db.log.Warn("the only voter goes on without a floor", "lost", what)
		return nil
	}
	p.why = "it has lost what it had acknowledged: " + what
	db.id.lost = true
	return db.id.save(&db.cfg)
}

// begin decides at Open whether this member may vote at once.
func (p *proof) begin() {
	db := p.db
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case db.id.lost:
		if p.why == "" {
			p.why = "at an earlier start it had lost what it had acknowledged, and it has not caught up since"
		}
		db.log.Warn("this member takes no part in elections until it has caught up", "why", p.why)
	case !db.id.settled:
		p.why = "its directory is new, and not yet known to be the right one"
	default:
		p.whole.Store(true)
	}
}

// onlyVoter says whether this member is the only voter, before raft runs.
func (db *DB) onlyVoter() bool {
	c, err := db.firstKnown()
	voters, self := 0, false
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || string(s.ID) == db.cfg.ID
		}
	}
	return err == nil && voters == 1 && self
}

// changed is told that the applied table of members has changed.
func (p *proof) changed() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// run makes changes of the table of members durable: after a crash the state
// knows only what was flushed, until there is a leader again, and whom to
// refuse must be known before.
func (p *proof) run() {
	for {
		select {
		case <-p.db.ctx.Done():
			return
		case <-p.dirty:
		}
		if _, err := p.db.state.Flush(); err != nil && p.db.ctx.Err() == nil {
			p.db.log.Warn("the table of members could not be flushed", "error", err)
		}
	}
}

// mayVote returns why this member must not vote, nil if it may.
func (p *proof) mayVote() error {
	if p.whole.Load() {
		return nil
	}
	return errors.New(p.reason())
}

// reason is why this member must not vote; "" if it may.
func (p *proof) reason() string {
	if p.whole.Load() {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return "no vote of " + p.db.cfg.ID + ": " + p.why
}

// born: a majority of the first members are at the very beginning.
func (p *proof) born() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.db.id.settled || p.db.id.lost {
		return nil
	}
	p.db.id.settled = true
	if err := p.db.id.save(&p.db.cfg); err != nil {
		return err
	}
	p.whole.Store(true)
	return nil
}

// applied is called after each apply: is this start of ours known now?
func (p *proof) applied() {
	if p.done.Load() {
		return
	}
	m, ok := p.db.state.Member(p.db.cfg.ID)
	if !ok || m.Incarnation != p.db.id.incarnation || m.Start != p.db.present {
		return
	}
	p.done.Store(true)
	p.whole.Store(true)
	p.db.background(p.known)
}

// known writes down that this start is known: it alone need be remembered.
func (p *proof) known() {
	if p.db.guard.BelowFloor() {
		if err := p.db.guard.Whole(); err != nil {
			return // the guard has stopped the store
		}
		p.db.log.Info("this member has caught up, and takes part in elections again")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.db.id
	d.settled, d.lost, d.starts = true, false, []command.Start{p.db.present}
	if err := d.save(&p.db.cfg); err != nil {
		p.db.fatal(err)
		return
	}
	p.db.trans.SetStarts(d.transportStarts())
}

// claim returns what makes this start known, once it is written down that it
// may be.
func (p *proof) claim() (c store.Claim, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.db.id
	if !d.announced {
		d.announced = true
		err = d.save(&p.db.cfg)
	}
	return store.Claim{Incarnation: d.incarnation, Since: d.since, Starts: slices.Clone(d.starts)}, err
}

func (d *identity) transportStarts() []transport.Start {
	out := make([]transport.Start, len(d.starts))
	for i, s := range d.starts {
		out[i] = transport.Start(s)
	}
	return out
}

// checkPeer refuses a peer whose directory is not the one that this member's
// applied state knows.
func (db *DB) checkPeer(id transport.Identity) error {
	if id.From == db.cfg.ID {
		return fmt.Errorf("%w: two processes speak for %s", ErrStaleIdentity, id.From)
	}
	claim := store.Claim{Incarnation: id.Incarnation, Since: id.Since, Starts: make([]command.Start, len(id.Starts))}
	for i, s := range id.Starts {
		claim.Starts[i] = command.Start(s)
	}
	if err := db.state.Judge(id.From, claim); err != nil {
		return err
	}
	if id.Addr != "" && db.peers.foundAt(id.From, id.Addr) {
		db.log.Debug("a member is found", "id", id.From, "addr", id.Addr)
	}
	return nil
}

// checkVote decides whether a request that may make this member vote or
// campaign reaches raft.
func (db *DB) checkVote(lastLogIndex uint64) error {
	if lastLogIndex == 0 {
		db.leads.asked.Store(true) // TimeoutNow
	}
	return db.proof.mayVote()
}

// reached notes the outcome of an RPC to a member. Who answers is reached, unless it
// wants nothing to do with us, or stops; that the request was refused is its caller's
// affair. One that a member refuses because of our identity is the end of this one, if
// it says so again a moment later: it decides from what the cluster has committed, and
// what cannot be undone is worth a second look.
func (db *DB) reached(id string, err error) {
	why := transport.RefusedAs(err)
	if wireerr.Answered(err) && why == nil && !errors.Is(err, ErrClosed) {
		db.peers.note(id, nil)
	} else {
		db.peers.note(id, err)
	}
	switch {
	case err == nil:
		db.proof.doubts.Delete(id)
	case errors.Is(why, ErrRemoved), errors.Is(why, ErrStaleIdentity):
		if first, doubted := db.proof.doubts.LoadOrStore(id, time.Now()); !doubted {
			db.background(func() { db.askAgain(id) })
		} else if time.Since(first.(time.Time)) >= db.cfg.ElectionTimeout/4 {
			db.refuseIf(why)
		}
	}
}

// askAgain asks a member that refused us once more.
func (db *DB) askAgain(id string) {
	pauseFor(db.ctx, nil, db.cfg.ElectionTimeout/2)
	for _, m := range db.configuration().Servers {
		if string(m.ID) == id && db.ctx.Err() == nil {
			db.ask(id, string(m.Address))
		}
	}
}

// ask makes a member say whether it takes this one for what it is.
func (db *DB) ask(id, addr string) {
	ctx, cancel := context.WithTimeout(db.ctx, db.cfg.ElectionTimeout)
	defer cancel()
	_, _, err := db.trans.Confirm(ctx, id, addr, db.raft.CurrentTerm())
	db.reached(id, err)
}

// refuseIf stops this member for good if err says that the cluster does not
// want its directory.
func (db *DB) refuseIf(err error) {
	why := notRefused
	switch {
	case errors.Is(err, ErrRemoved):
		why = refusedRemoved
	case errors.Is(err, ErrStaleIdentity):
		why = refusedStale
	default:
		return
	}
	db.proof.mu.Lock()
	first := db.id.refused == notRefused
	if first {
		db.id.refused = why
		if err := db.id.save(&db.cfg); err != nil {
			db.log.Error("could not write down that the cluster refuses this directory", "error", err)
		}
	}
	db.proof.mu.Unlock()
	if first {
		if e, ok := errors.AsType[*Error](err); ok {
			err = e.Err
		}
		db.fatal(err)
	}
}
