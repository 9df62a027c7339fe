package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/replkv/replkv/kv"
)

// place is a session's place in a queue: a key that hangs on its lease.
//
// A write whose outcome is unknown may be done later, when the place was given up,
// and would then be in everybody's way. So no write here can have an effect later
// than the next one: removals compare CreateRevision, and entering compares the
// revision of another key, the gate, which is absent until somebody is in doubt: who
// gives up a place and does not know of all that it sent writes the gate first.
// The gate hangs on the lease, too. Rejected: to take an unknown outcome for not
// done, as etcd does.
type place struct {
	s     *Session
	name  string
	q     queue
	key   string
	gate  string
	owner atomic.Int64 // CreateRevision of key; 0: it is not there, as far as known

	// Of the goroutine that takes the place, then of the one that gives it up.
	doubt   bool        // an entry may come to be done later
	gateRev kv.Revision // ModRevision of gate as last seen; 0: absent

	leaving bool          // protected by s.mu: it is being given up
	left    chan struct{} // closed when it has been
	err     error         // of that; may be read when left is closed

	mod atomic.Int64 // ModRevision of key as last seen
}

func newPlace(s *Session, name string) *place {
	q := queueOf(name)
	key := q.key(s.lease)
	return &place{s: s, name: name, q: q, key: key, gate: key + ".gate", left: make(chan struct{})}
}

func (p *place) token() Token { return Token(p.owner.Load()) }

// isOwner holds as long as the place does.
func (p *place) isOwner() kv.Compare {
	return kv.Compare{Range: kv.Key(p.key), Target: kv.TargetCreateRevision, Is: kv.Equal, Number: p.owner.Load()}
}

func (p *place) created(at kv.Revision) {
	p.owner.Store(int64(at))
	p.mod.Store(int64(at))
}

// enter writes the key.
func (p *place) enter(ctx context.Context, value []byte) error {
	for {
		set := kv.SetOp(p.key, value)
		set.Lease = p.s.lease
		res, err := p.s.store.Txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.Absent(p.key), kv.RevisionIs(p.gate, p.gateRev)},
			Then: []kv.Op{set},
			Else: []kv.Op{kv.GetOp(kv.Key(p.key)), kv.GetOp(kv.Key(p.gate))},
		})
		switch {
		case err == nil && res.Succeeded:
			p.created(res.Revision)
			return nil
		case err == nil:
			if entered, err := p.refused(res); entered || err != nil {
				return err
			}
		default:
			p.doubt = p.doubt || kv.OutcomeOf(err) != kv.OutcomeNotDone
			if ctx.Err() != nil || !passes(err) {
				return err
			}
			wait(ctx, retryPause)
		}
	}
}

// refused looks at what was in the way: the key, which an earlier attempt of ours
// has written, or a gate.
func (p *place) refused(res kv.TxnResult) (entered bool, err error) {
	if there := res.Results[0].Items; len(there) > 0 {
		if !p.doubt {
			return false, fmt.Errorf("%w: key %q is there, and is not ours", kv.ErrConflict, p.key)
		}
		p.created(there[0].CreateRevision)
		return true, nil
	}
	p.gateRev = 0
	if gate := res.Results[1].Items; len(gate) > 0 {
		p.gateRev = gate[0].ModRevision
	}
	return false, nil
}

// await returns when nobody is before us any more. It waits for the one right
// before only: the end of a lock wakes one waiter, not all.
func (p *place) await(ctx context.Context) error {
	for {
		ahead, rev, err := p.look(ctx)
		if err == nil && ahead == "" {
			return nil
		}
		if err == nil {
			err = p.awaitEnd(ctx, ahead, rev)
		}
		switch {
		case err == nil: // but somebody before it may be there
		case ctx.Err() != nil || !passes(err):
			return err
		case !errors.Is(err, kv.ErrCompacted): // that asks for another look only
			wait(ctx, retryPause)
		}
	}
}

// look returns the key of who is right before us at a revision; "" if nobody is.
func (p *place) look(ctx context.Context) (ahead string, rev kv.Revision, err error) {
	err = p.s.store.View(ctx, func(tx *kv.ReadTx) error {
		it, err := p.q.ahead(tx, p.key, kv.Revision(p.owner.Load()))
		ahead, rev = it.Key, tx.Revision()
		return err
	})
	return ahead, rev, err
}

// awaitEnd returns nil when a key that was there at rev has been deleted.
func (p *place) awaitEnd(ctx context.Context, key string, rev kv.Revision) error {
	for _, err := range p.s.store.Watch(ctx, kv.Key(key), kv.OnlyDeletes(), kv.AfterRevision(rev)) {
		return err
	}
	return nil
}

// propose writes another value, as long as the place is held. A late one has no
// effect on what was written after it.
func (p *place) propose(ctx context.Context, value []byte) error {
	for {
		mod := kv.Revision(p.mod.Load())
		if mod == 0 { // it would hold of an absent key
			return ErrNotHeld
		}
		set := kv.SetOp(p.key, value)
		set.Lease = p.s.lease
		res, err := p.s.store.Txn(ctx, kv.Txn{
			If:   []kv.Compare{kv.RevisionIs(p.key, mod)},
			Then: []kv.Op{set},
			Else: []kv.Op{kv.GetOp(kv.Key(p.key))},
		})
		if err != nil {
			return err
		}
		if res.Succeeded {
			p.mod.Store(int64(res.Revision))
			return nil
		}
		there := res.Results[0].Items
		if len(there) == 0 || int64(there[0].CreateRevision) != p.owner.Load() {
			return errDeleted
		}
		p.mod.Store(int64(there[0].ModRevision)) // another call of ours has written it
	}
}

// leave gives the place up, in the background, for as long as the session lives:
// its end removes the key as well. Call it once.
func (p *place) leave() {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	p.leaving = true
	if s.ctx.Err() != nil {
		p.goneLocked(s.Err())
		return
	}
	s.background.Go(func() {
		err := p.remove(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		p.goneLocked(err)
	})
}

func (p *place) goneLocked(err error) {
	delete(p.s.places, p.name)
	p.err = err
	close(p.left)
}

// remove goes on until the key is gone, or ctx, the session's, ends.
func (p *place) remove(ctx context.Context) error {
	again := false
	for {
		err := p.shut(ctx)
		if err == nil {
			err = p.delete(ctx)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errDeleted) && again:
			return nil // an earlier attempt has done it
		case ctx.Err() != nil || errors.Is(err, errDeleted) || errors.Is(err, kv.ErrLeaseNotFound):
			return p.s.reason(ctx, err)
		}
		again = true
		wait(ctx, retryPause)
	}
}

// shut sees to it that no entry will be done any more, and finds out whether one
// was.
func (p *place) shut(ctx context.Context) error {
	if !p.doubt {
		return nil
	}
	if _, err := p.s.store.Set(ctx, p.gate, nil, kv.WithLease(p.s.lease)); err != nil {
		return err
	}
	it, err := p.s.store.Get(ctx, p.key)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	p.doubt = false
	p.created(it.CreateRevision)
	return nil
}

// delete removes the key that we have written, and no other.
func (p *place) delete(ctx context.Context) error {
	if p.owner.Load() == 0 {
		return nil // it was never there
	}
	res, err := p.s.store.Txn(ctx, kv.Txn{If: []kv.Compare{p.isOwner()}, Then: []kv.Op{kv.DeleteOp(kv.Key(p.key))}})
	if err == nil && !res.Succeeded {
		err = errDeleted
	}
	return err
}

// alone returns ErrLocked if there is anybody in the queue.
func (p *place) alone(ctx context.Context) error {
	return p.s.store.View(ctx, func(tx *kv.ReadTx) error {
		first, err := p.q.first(tx)
		if err == nil && first.Key != "" {
			err = ErrLocked
		}
		return err
	})
}
