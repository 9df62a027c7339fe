package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/replkv/replkv"
)

// past is what was committed, as watches tell it.
type past struct {
	whole  bool // no revision is missing
	final  replkv.Revision
	events map[replkv.Revision][]replkv.Event
	keys   map[string][]version       // in order
	writes map[string]replkv.Revision // by identity
}

// version is a key from a revision on.
type version struct {
	rev  replkv.Revision
	item replkv.Item // zero: deleted
}

func newPast(events map[replkv.Revision][]replkv.Event, final replkv.Revision) (*past, error) {
	p := &past{whole: true, final: final, events: events, keys: map[string][]version{}, writes: map[string]replkv.Revision{}}
	for rev := replkv.Revision(2); rev <= final; rev++ {
		if len(events[rev]) == 0 {
			p.whole = false
			continue
		}
		for _, e := range events[rev] {
			v := version{rev: rev}
			if e.Kind == replkv.EventPut {
				v.item = e.Item
				if id := identity(e.Item.Key, string(e.Item.Value)); id != "" {
					if was, twice := p.writes[id]; twice {
						return p, fmt.Errorf("%s was written at %d and at %d", id, was, rev)
					}
					p.writes[id] = rev
				}
			}
			p.keys[e.Item.Key] = append(p.keys[e.Item.Key], v)
		}
	}
	return p, nil
}

// at is what key held at a revision; the zero Item if it was absent.
func (p *past) at(key string, rev replkv.Revision) replkv.Item {
	vs := p.keys[key]
	i, found := slices.BinarySearchFunc(vs, rev, func(v version, rev replkv.Revision) int { return cmp.Compare(v.rev, rev) })
	if found {
		return vs[i].item
	}
	if i == 0 {
		return replkv.Item{}
	}
	return vs[i-1].item
}

// until is the first change of key after a revision.
func (p *past) until(key string, rev replkv.Revision) replkv.Revision {
	for _, v := range p.keys[key] {
		if v.rev > rev {
			return v.rev
		}
	}
	return math.MaxInt64
}

// checkVersions replays the past, if it is whole: it must agree with itself.
func (p *past) checkVersions(r *run) {
	if !p.whole {
		return
	}
	state := map[string]replkv.Item{}
	for rev := replkv.Revision(2); rev <= p.final; rev++ {
		for _, e := range p.events[rev] {
			before, had := state[e.Item.Key]
			create, version := rev, int64(1)
			if had {
				create, version = before.CreateRevision, before.Version+1
			}
			switch {
			case e.Kind == replkv.EventDelete && !had:
				r.fail("%s: it was absent", describeEvent(e))
			case e.Kind == replkv.EventPut && (e.Item.CreateRevision != create || e.Item.Version != version || e.Item.ModRevision != rev):
				r.fail("%s: want created at %d, version %d", describeEvent(e), create, version)
			}
		}
		replay(state, p.events[rev])
	}
}

// same compares items.
func same(a, b replkv.Item) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

// checkPast compares the history with what was committed.
func (r *run) checkPast() {
	p := r.past
	writer := map[string]*Op{} // by identity
	for _, o := range r.hist.ops {
		for key, value := range o.Puts {
			if id := identity(key, value); id != "" {
				writer[id] = o
			}
		}
	}
	at := map[replkv.Revision]*Op{}
	for _, o := range r.hist.ops {
		if o.Writes() {
			r.checkWrite(o, at)
		}
		if o.Known() && (len(o.Read) > 0 || o.Prefix != "") {
			r.checkRead(o, writer)
		}
	}
	r.cover.add(countRevisions, int(p.final))
}

// checkWrite: what was acknowledged was done, once, as it was asked for, after all
// that had been answered before; what was not done was not.
func (r *run) checkWrite(o *Op, at map[replkv.Revision]*Op) {
	done := replkv.Revision(0)
	for key, value := range o.Puts {
		if rev, ok := r.past.writes[identity(key, value)]; ok {
			done = rev
		}
	}
	switch {
	case o.Outcome == replkv.OutcomeNotDone && done > 0:
		r.fail("not done, and is at %d: %v", done, o)
	case o.Outcome == replkv.OutcomeUnknown && done > 0:
		r.count(countUnknownOn)
	case o.Known() && len(o.Puts) == 0 && o.Deleted == 0:
		return // it changed nothing
	case o.Known():
		if other := at[o.Revision]; other != nil {
			r.fail("two writes at one revision: %v; %v", other, o)
		}
		at[o.Revision] = o
		if o.Revision <= o.After {
			r.fail("done at %d although %d had been answered before it was called: %v", o.Revision, o.After, o)
		}
		if o.Conditional && r.past.whole && r.past.at(o.Key, o.Revision-1).ModRevision != o.If {
			r.fail("the condition did not hold at %d: %v", o.Revision-1, o)
		}
		r.checkEvents(o)
	}
}

// checkEvents: the revision of an acknowledged write has its effects and no other.
func (r *run) checkEvents(o *Op) {
	events, known := r.past.events[o.Revision]
	if !known && !r.past.whole {
		return
	}
	left := len(o.Puts) + int(o.Deleted)
	if o.Kind == kindUpdate { // says nothing of what it has deleted
		left = len(o.Puts) + len(o.Dels)
	}
	for _, e := range events {
		value, put := o.Puts[e.Item.Key]
		if e.Kind == replkv.EventPut && (!put || value != string(e.Item.Value)) || e.Kind == replkv.EventDelete && !slices.Contains(o.Dels, e.Item.Key) {
			left = -1
			break
		}
		left--
	}
	if left != 0 {
		r.fail("acknowledged, but revision %d has %v: %v", o.Revision, events, o)
	}
}

// checkRead: there is a revision, within what the read promises, at which all that it
// saw is true.
func (r *run) checkRead(o *Op, writer map[string]*Op) {
	low, high := o.Least, r.past.final
	if o.Most > 0 {
		high = o.Most
	}
	if (o.Kind == kindUpdate || o.Kind == kindView) && o.Revision > 0 { // they say at which
		at := o.Revision
		if o.Writes() {
			at--
		}
		if at < low {
			r.fail("read at %d although %d had been answered: %v", at, low, o)
		}
		low, high = at, at
	}
	if o.Prefix != "" {
		for key := range r.past.keys {
			if _, found := o.Read[key]; !found && strings.HasPrefix(key, o.Prefix) {
				o.Read[key] = replkv.Item{}
			}
		}
	}
	for key, it := range o.Read {
		if it.ModRevision == 0 {
			continue
		}
		if events, known := r.past.events[it.ModRevision]; !known && !r.past.whole {
			return // compacted before anybody saw it
		} else if !slices.ContainsFunc(events, func(e replkv.Event) bool { return e.Kind == replkv.EventPut && same(e.Item, it) }) {
			r.fail("what %s held was never written: revision %d has %v: %v", key, it.ModRevision, events, o)
			return
		}
		if w := writer[identity(key, string(it.Value))]; w != nil && w.Call > o.Return {
			r.fail("read what was not begun yet, by %v: %v", w, o)
		}
		low, high = max(low, it.ModRevision), min(high, r.past.until(key, it.ModRevision)-1)
	}
	if low > high {
		r.fail("read what was true at %d at the latest, and at %d at the earliest: %v", high, low, o)
		return
	}
	if r.past.whole && !r.absentAt(o, low, high) {
		r.fail("found keys absent that were there, from %d to %d: %v", low, high, o)
	}
}

// absentAt looks for a revision at which the keys that a read did not find were absent.
func (r *run) absentAt(o *Op, low, high replkv.Revision) bool {
	for rev := low; rev <= high; {
		next, all := replkv.Revision(math.MaxInt64), true
		for key, it := range o.Read {
			if it.ModRevision == 0 && r.past.at(key, rev).ModRevision != 0 {
				all = false
			}
			if it.ModRevision == 0 {
				next = min(next, r.past.until(key, rev))
			}
		}
		if all {
			return true
		}
		rev = next
	}
	return false
}
