package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/replkv/replkv"
)

// past is what was committed, as watches tell it.
type past struct {
	missing []replkv.Revision // nobody saw them, in order
	final   replkv.Revision
	events  map[replkv.Revision][]replkv.Event
	keys    map[string][]version       // in order
	writes  map[string]replkv.Revision // by identity
}

// version is a key from a revision on.
type version struct {
	rev  replkv.Revision
	item replkv.Item // zero: deleted
}

func newPast(events map[replkv.Revision][]replkv.Event, final replkv.Revision) (*past, error) {
	p := &past{final: final, events: events, keys: map[string][]version{}, writes: map[string]replkv.Revision{}}
	for rev := replkv.Revision(2); rev <= final; rev++ {
		if len(events[rev]) == 0 {
			p.missing = append(p.missing, rev)
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

// whole says whether no revision is missing.
func (p *past) whole() bool { return len(p.missing) == 0 }

// gap is the first revision after one that is missing.
func (p *past) gap(after replkv.Revision) replkv.Revision {
	i, _ := slices.BinarySearch(p.missing, after+1)
	if i == len(p.missing) {
		return math.MaxInt64
	}
	return p.missing[i]
}

// last is the last change of key that is known, up to a revision.
func (p *past) last(key string, rev replkv.Revision) version {
	vs := p.keys[key]
	i, found := slices.BinarySearchFunc(vs, rev, func(v version, rev replkv.Revision) int { return cmp.Compare(v.rev, rev) })
	switch {
	case found:
		return vs[i]
	case i == 0:
		return version{rev: 1}
	}
	return vs[i-1]
}

// at is what key held at a revision, as far as is known; the zero Item if it was absent.
func (p *past) at(key string, rev replkv.Revision) replkv.Item { return p.last(key, rev).item }

// known says whether at knows what key held at a revision: nothing is missing since.
func (p *past) known(key string, rev replkv.Revision) bool { return p.gap(p.last(key, rev).rev) > rev }

// until is the first change of key after a revision.
func (p *past) until(key string, rev replkv.Revision) replkv.Revision {
	for _, v := range p.keys[key] {
		if v.rev > rev {
			return v.rev
		}
	}
	return math.MaxInt64
}

// checkVersions replays the past: it must agree with itself.
func (p *past) checkVersions(r *run) {
	for rev := replkv.Revision(2); rev <= p.final; rev++ {
		for _, e := range p.events[rev] {
			if !p.known(e.Item.Key, rev-1) {
				continue
			}
			before := p.at(e.Item.Key, rev-1)
			create := cmp.Or(before.CreateRevision, rev)
			switch {
			case e.Kind == replkv.EventDelete && before.ModRevision == 0:
				r.fail("%s: it was absent", describeEvent(e))
			case e.Kind == replkv.EventPut && (e.Item.CreateRevision != create || e.Item.Version != before.Version+1 || e.Item.ModRevision != rev):
				r.fail("%s: want created at %d, version %d", describeEvent(e), create, before.Version+1)
			}
		}
	}
}

// same compares items.
func same(a, b replkv.Item) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}
