package sim

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/replkv/replkv"
)

// judge compares the operations of a history with what was committed: each revision is
// the work of one operation, done as it was asked for and when it may have been; what was
// not done is not there; and what was read was there.
type judge struct {
	*run
	writer map[string]*Op          // by the identity of what it writes
	done   map[*Op]replkv.Revision // of what had an effect, whatever its client was told
	by     map[replkv.Revision]*Op
	calls  []called // in order
}

// called is when a write was called that was done.
type called struct {
	at    int64
	least replkv.Revision // of this and all later ones
}

// checkPast compares the history with what was committed.
func (r *run) checkPast() {
	j := &judge{run: r, writer: map[string]*Op{}, done: map[*Op]replkv.Revision{}, by: map[replkv.Revision]*Op{}}
	for _, o := range r.hist.ops {
		j.place(o)
	}
	j.order()
	j.authors()
	for _, o := range r.hist.ops {
		rev := j.done[o]
		if rev > 0 {
			j.checkWrite(o, rev)
		}
		if (o.Known() || rev > 0) && (len(o.Read) > 0 || o.Prefix != "") {
			j.checkRead(o)
		}
		if errors.Is(o.Err, replkv.ErrConflict) {
			j.checkConflict(o)
		}
	}
	r.cover.add(countRevisions, int(r.past.final))
	r.cover.add(countUnseen, len(r.past.missing))
}

// place finds the revision of a write that was acknowledged, or that its values tell from
// all others.
func (j *judge) place(o *Op) {
	seen := replkv.Revision(0)
	for key, value := range o.Puts {
		id := identity(key, value)
		if id == "" {
			continue
		}
		j.writer[id] = o
		seen = max(seen, j.past.writes[id])
	}
	rev := seen
	switch {
	case o.Known():
		if rev = o.Revision; len(o.Puts) == 0 && o.Deleted == 0 {
			return // it changed nothing
		}
	case seen > 0 && o.Outcome == replkv.OutcomeNotDone:
		j.fail("not done, and is at %d: %v", seen, o)
	case seen > 0 && o.Outcome == replkv.OutcomeUnknown:
		j.count(countUnknownOn)
	case seen == 0 && len(o.Puts) > 0 && o.dropped() && !o.Conditional && len(o.When) == 0 && j.past.whole():
		j.fail("done, and is nowhere: %v", o)
	}
	if rev == 0 {
		return
	}
	if other := j.by[rev]; other != nil {
		j.fail("two writes at one revision: %v; %v", other, o)
	}
	j.done[o], j.by[rev] = rev, o
}

// order puts the writes that were done in the order of their calls.
func (j *judge) order() {
	for o, rev := range j.done {
		j.calls = append(j.calls, called{o.Call, rev})
	}
	slices.SortFunc(j.calls, func(a, b called) int { return cmp.Compare(a.at, b.at) })
	for i := len(j.calls) - 2; i >= 0; i-- {
		j.calls[i].least = min(j.calls[i].least, j.calls[i+1].least)
	}
}

// before is a revision that came after o had returned: the first of a write that was
// called later.
func (j *judge) before(o *Op) replkv.Revision {
	i, _ := slices.BinarySearchFunc(j.calls, o.Return, func(c called, at int64) int { return cmp.Compare(c.at, at) })
	if i == len(j.calls) {
		return math.MaxInt64
	}
	return j.calls[i].least
}

// authors looks for who made the revisions that no answer and no value tells of: the
// deletions whose outcome nobody was told. Each is done once at most.
func (j *judge) authors() {
	var left []*Op
	for _, o := range j.hist.ops {
		if !o.Known() && o.Outcome != replkv.OutcomeNotDone && len(o.Puts) == 0 && o.Writes() {
			left = append(left, o)
		}
	}
	for rev := replkv.Revision(2); rev <= j.past.final; rev++ {
		events := j.past.events[rev]
		if j.by[rev] != nil || !slices.ContainsFunc(events, func(e replkv.Event) bool { return !j.foreign(e, rev) }) {
			continue
		}
		i := j.author(left, events, rev)
		if i < 0 {
			j.fail("nobody asked for revision %d: %v", rev, events)
			continue
		}
		j.done[left[i]], j.by[rev] = rev, left[i]
		j.count(countUnknownOn)
		left = slices.Delete(left, i, i+1)
	}
	for _, o := range left {
		if o.dropped() && j.past.whole() {
			j.fail("done, and is nowhere: %v", o)
		}
	}
}

// foreign says whether an event is of no operation: of the queue of a lock, or of the end
// of a lease.
func (j *judge) foreign(e replkv.Event, rev replkv.Revision) bool {
	key := e.Item.Key
	ended := e.Kind == replkv.EventDelete && (j.past.at(key, rev-1).Lease != 0 || !j.past.known(key, rev-1))
	return strings.HasPrefix(key, lockName+"/") || strings.HasPrefix(key, leasePrefix) && ended
}

// author is the one of some deletions that may have made a revision; of several the one
// that can least wait for another. -1: none.
func (j *judge) author(left []*Op, events []replkv.Event, rev replkv.Revision) int {
	best, until := -1, replkv.Revision(math.MaxInt64)
	for i, o := range left {
		last := j.before(o)
		if o.Conditional {
			last = rev // its condition holds now only
		}
		if rev <= o.After || rev > last || best >= 0 && last >= until || !j.holds(o, rev-1) {
			continue
		}
		if !slices.ContainsFunc(events, func(e replkv.Event) bool { return e.Kind != replkv.EventDelete || !o.deletes(e.Item.Key) }) {
			best, until = i, last
		}
	}
	return best
}

// holds says whether the conditions of a write held at a revision, as far as is known.
func (j *judge) holds(o *Op, rev replkv.Revision) bool {
	if o.Conditional && j.past.known(o.Key, rev) && j.past.at(o.Key, rev).ModRevision != o.If {
		return false
	}
	return !slices.ContainsFunc(o.When, func(c replkv.Compare) bool {
		key, _, _ := c.Range.Bounds()
		it := j.past.at(key, rev)
		return j.past.known(key, rev) && (!c.Holds(&it) || c.Target == replkv.TargetValue && it.ModRevision == 0)
	})
}

// checkWrite: what was done at a revision was done as it was asked for, after all that
// had been answered before.
func (j *judge) checkWrite(o *Op, rev replkv.Revision) {
	if rev <= o.After {
		j.fail("done at %d although %d had been answered before it was called: %v", rev, o.After, o)
	}
	if !j.holds(o, rev-1) {
		j.fail("the condition did not hold at %d: %v", rev-1, o)
	}
	j.checkEvents(o, rev)
}

// checkEvents: the revision of a write has its effects and no other.
func (j *judge) checkEvents(o *Op, rev replkv.Revision) {
	events, seen := j.past.events[rev]
	if !seen && !j.past.whole() {
		return
	}
	want := len(o.Puts) + len(o.Dels)
	if o.Under != "" && !o.Known() {
		want = len(events) // it was not told which
	}
	other := func(e replkv.Event) bool {
		value, put := o.Puts[e.Item.Key]
		if e.Kind == replkv.EventPut {
			return !put || value != string(e.Item.Value)
		}
		return !o.deletes(e.Item.Key)
	}
	if want != len(events) || slices.ContainsFunc(events, other) {
		what := "acknowledged"
		if !o.Known() {
			what = "done, though its client was not told"
		}
		j.fail("%s, but revision %d has %v: %v", what, rev, events, o)
	}
	if o.Under == "" {
		return
	}
	for key := range j.past.keys {
		gone := slices.ContainsFunc(events, func(e replkv.Event) bool { return e.Item.Key == key })
		if strings.HasPrefix(key, o.Under) && !gone && j.past.known(key, rev-1) && j.past.at(key, rev-1).ModRevision != 0 {
			j.fail("revision %d leaves %s: %v", rev, key, o)
		}
	}
}

// checkConflict: who is told that a condition did not hold asked for one that did not.
func (j *judge) checkConflict(o *Op) {
	if len(o.When) > 0 {
		known := !slices.ContainsFunc(o.When, func(c replkv.Compare) bool {
			key, _, _ := c.Range.Bounds()
			return !j.past.known(key, o.Revision)
		})
		if o.Revision > 0 && known && j.holds(o, o.Revision) {
			j.fail("the condition held at %d: %v", o.Revision, o)
		}
		return
	}
	high := min(j.before(o)-1, j.past.final)
	if o.Conditional && j.past.at(o.Key, o.After).ModRevision == o.If && j.past.known(o.Key, o.After) &&
		j.past.until(o.Key, o.After) > high && j.past.gap(o.After) > high {
		j.fail("the condition held from %d to %d: %v", o.After, high, o)
	}
}

// checkRead: there is a revision, within what the read promises, at which all that it
// saw is true.
func (j *judge) checkRead(o *Op) {
	low, high := o.Least, min(j.past.final, j.before(o)-1)
	if o.Most > 0 {
		high = o.Most
	}
	if at := o.Revision; at > 0 || j.done[o] > 0 { // it says at which
		if rev := j.done[o]; rev > 0 {
			at = rev - 1
		}
		if at < low {
			j.fail("read at %d although %d had been answered: %v", at, low, o)
		}
		low, high = at, at
	}
	if o.Prefix != "" {
		for key := range j.past.keys {
			if _, found := o.Read[key]; !found && strings.HasPrefix(key, o.Prefix) {
				o.Read[key] = replkv.Item{}
			}
		}
	}
	for key, it := range o.Read {
		if it.ModRevision == 0 {
			continue
		}
		if events, seen := j.past.events[it.ModRevision]; !seen && !j.past.whole() {
			return // compacted before anybody saw it
		} else if !slices.ContainsFunc(events, func(e replkv.Event) bool { return e.Kind == replkv.EventPut && same(e.Item, it) }) {
			j.fail("what %s held was never written: revision %d has %v: %v", key, it.ModRevision, events, o)
			return
		}
		if w := j.writer[identity(key, string(it.Value))]; w != nil && w.Call > o.Return {
			j.fail("read what was not begun yet, by %v: %v", w, o)
		}
		low, high = max(low, it.ModRevision), min(high, j.past.until(key, it.ModRevision)-1)
	}
	if low > high {
		j.fail("read what was true at %d at the latest, and at %d at the earliest: %v", high, low, o)
		return
	}
	if !j.absentAt(o, low, high) {
		j.fail("found keys absent that were there, from %d to %d: %v", low, high, o)
	}
}

// absentAt looks for a revision at which the keys that a read did not find may have been
// absent.
func (j *judge) absentAt(o *Op, low, high replkv.Revision) bool {
	for rev := low; rev <= high; {
		next, all := j.past.gap(rev), true
		for key, it := range o.Read {
			if it.ModRevision != 0 {
				continue
			}
			if j.past.at(key, rev).ModRevision != 0 && j.past.known(key, rev) {
				all = false
			}
			next = min(next, j.past.until(key, rev))
		}
		if all {
			return true
		}
		rev = next
	}
	return false
}
