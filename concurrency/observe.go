package concurrency

import (
	"bytes"
	"context"
	"iter"

	"github.com/replkv/replkv/kv"
)

// Observe yields who leads the election of that name, if anybody does, and from then
// on each new leader and each value that a leader proclaims, in order, each once; the
// items are those of Leader. If history was compacted before it was observed, it goes
// on with who leads then: some may be missing, the last never is. Nothing is yielded
// when a leader is gone and nobody follows.
//
// It goes on while the store has no leader, until the body breaks out, ctx ends, or
// the store is closed; the error is the last pair. It holds the values of all who
// campaign.
func Observe(ctx context.Context, store kv.KV, name string) iter.Seq2[kv.Item, error] {
	return func(yield func(kv.Item, error) bool) {
		if err := checkName(name); err != nil {
			yield(kv.Item{}, failed("Observe", kv.OutcomeNotDone, err))
			return
		}
		o := observer{q: queueOf(name), there: map[string]kv.Item{}}
		for c, err := range kv.WatchSnapshot(ctx, store, o.q.keys()) {
			if err != nil {
				yield(kv.Item{}, failed("Observe", kv.OutcomeNotDone, err))
				return
			}
			if it, news := o.see(c); news && !yield(it, nil) {
				return
			}
		}
	}
}

// observer is one loop over Observe.
type observer struct {
	q     queue
	there map[string]kv.Item // the places, by key
	whole bool               // there is all that there was at some revision
	seen  kv.Revision        // ModRevision of the leader that was yielded last
}

// see returns the leader after c, if that is news.
func (o *observer) see(c kv.Change) (leader kv.Item, news bool) {
	for _, e := range c.Events {
		delete(o.there, e.Item.Key)
		if e.Kind == kv.EventPut && o.q.has(&e.Item) {
			o.there[e.Item.Key] = e.Item
		}
	}
	o.whole = o.whole || c.Progress // until then some of the first listing are missing
	for _, it := range o.there {
		if leader.Key == "" || older(&it, &leader) {
			leader = it
		}
	}
	if !o.whole || leader.Key == "" || leader.ModRevision == o.seen {
		return leader, false
	}
	o.seen = leader.ModRevision
	leader.Value = bytes.Clone(leader.Value) // ours is kept
	return leader, true
}
