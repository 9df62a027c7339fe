//go:build linux

package chaos

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replkv/replkv/kv"
)

// plantedRound is a round of a lab without machines, for checks alone.
func plantedRound(t *testing.T) *round {
	return &round{l: &lab{t: t}, prefix: "r1/", from: 1}
}

// wantViolation wants a violation that holds text; "": none at all.
func (r *round) wantViolation(t *testing.T, text string) {
	t.Helper()
	found := strings.Join(r.l.violations(), "\n")
	if text == "" && found != "" || !strings.Contains(found, text) {
		t.Errorf("want a violation %q, got %q", text, found)
	}
}

func put(rev kv.Revision, pairs ...string) kv.Change {
	c := kv.Change{Revision: rev}
	for i := 0; i < len(pairs); i += 2 {
		c.Events = append(c.Events, kv.Event{Kind: kv.EventPut, Item: kv.Item{Key: "r1/" + pairs[i], Value: []byte(pairs[i+1]), ModRevision: rev}})
	}
	return c
}

func TestPlantedRegister(t *testing.T) {
	set := func(call, end int64, value string) porcupine.Operation {
		return porcupine.Operation{Input: registerInput{op: "set", value: value}, Call: call, Output: registerOutput{known: true}, Return: end}
	}
	get := func(call, end int64, value string) porcupine.Operation {
		return porcupine.Operation{ClientId: 1, Input: registerInput{op: "get"}, Call: call, Output: registerOutput{known: true, value: value}, Return: end}
	}
	cas := func(call, end int64, old, value string, out registerOutput) porcupine.Operation {
		return porcupine.Operation{ClientId: 2, Input: registerInput{op: "cas", old: old, value: value}, Call: call, Output: out, Return: end}
	}
	unknown := set(5, 1<<60, "b")
	unknown.Output = registerOutput{}
	yes, no, lost := registerOutput{known: true, ok: true}, registerOutput{known: true}, registerOutput{}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		fine    bool
	}{
		"read after write":            {[]porcupine.Operation{set(1, 2, "a"), get(3, 4, "a")}, true},
		"stale read":                  {[]porcupine.Operation{set(1, 2, "a"), set(3, 4, "b"), get(5, 6, "a")}, false},
		"lost write":                  {[]porcupine.Operation{set(1, 2, "a"), get(3, 4, "")}, false},
		"unknown write, seen":         {[]porcupine.Operation{set(1, 2, "a"), unknown, get(7, 8, "b")}, true},
		"unknown write, not seen":     {[]porcupine.Operation{set(1, 2, "a"), unknown, get(7, 8, "a")}, true},
		"unknown write, seen and not": {[]porcupine.Operation{set(1, 2, "a"), unknown, get(7, 8, "b"), get(9, 10, "a")}, false},
		"cas":                         {[]porcupine.Operation{set(1, 2, "a"), cas(3, 4, "a", "b", yes), get(5, 6, "b")}, true},
		"cas of what was not there":   {[]porcupine.Operation{set(1, 2, "a"), cas(3, 4, "x", "b", yes)}, false},
		"cas refused, and done":       {[]porcupine.Operation{set(1, 2, "a"), cas(3, 4, "a", "b", no)}, false},
		"cas unknown, and done":       {[]porcupine.Operation{set(1, 2, "a"), cas(3, 1<<60, "a", "b", lost), get(5, 6, "b")}, true},
	} {
		if got := porcupine.CheckOperations(registerModel, c.history); got != c.fine {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPlantedList(t *testing.T) {
	k0, k1 := "r1/list/0", "r1/list/1"
	rec := func() *record {
		return &record{last: 9, changes: []kv.Change{put(3, "list/0", " a"), put(5, "list/0", " a b", "list/1", " b")}}
	}
	a := &listTxn{element: "a", read: map[string]string{k0: ""}, wrote: []string{k0}, rev: 3, fate: kv.OutcomeDone}
	b := &listTxn{element: "b", read: map[string]string{k0: " a", k1: ""}, wrote: []string{k0, k1}, rev: 5, after: 3, fate: kv.OutcomeDone}
	view := &listTxn{element: "v", read: map[string]string{k0: " a"}, rev: 4, fate: kv.OutcomeDone}
	with := func(x *listTxn, change func(*listTxn)) *listTxn {
		y := *x
		change(&y)
		return &y
	}
	for name, c := range map[string]struct {
		history []*listTxn
		says    string
	}{
		"fine":             {[]*listTxn{a, b, view}, ""},
		"stale view":       {[]*listTxn{a, b, with(view, func(x *listTxn) { x.after = 5 })}, "5 had been answered before"},
		"read of a past":   {[]*listTxn{a, with(b, func(x *listTxn) { x.read = map[string]string{k0: ""} })}, "read \"\" in r1/list/0"},
		"lost":             {[]*listTxn{a, b, with(a, func(x *listTxn) { x.element, x.rev = "c", 7 })}, "was done at revision 7, and is at 0"},
		"done and refused": {[]*listTxn{with(a, func(x *listTxn) { x.fate = kv.OutcomeNotDone }), b}, "was not done, and is at revision 3"},
		"half":             {[]*listTxn{a, with(b, func(x *listTxn) { x.wrote = []string{k0} })}, "r1/list/1 holds"},
	} {
		r := plantedRound(t)
		l := newLists(r)
		l.history = c.history
		l.check(t.Context(), rec())
		t.Log(name)
		r.wantViolation(t, c.says)
	}
	half := plantedRound(t) // of what went to a list that there was not yet
	l := newLists(half)
	l.history = []*listTxn{{element: "a", read: map[string]string{k0: "", k1: ""}, wrote: []string{k0, k1}, rev: 3, fate: kv.OutcomeDone}}
	l.check(t.Context(), &record{last: 3, changes: []kv.Change{put(3, "list/0", " a")}})
	half.wantViolation(t, `r1/list/1 still holds ""`)
	r := plantedRound(t)
	torn := &record{last: 9, changes: []kv.Change{put(3, "list/0", " a"), put(5, "list/0", " b")}}
	newLists(r).check(t.Context(), torn)
	r.wantViolation(t, `makes " b" of " a"`)
}

func TestPlantedLock(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	one, two := holding{token: 1, from: at(0), to: at(10)}, holding{token: 2, from: at(11), to: at(20)}
	for _, c := range []struct {
		holding []holding
		guards  []kv.Change
		acked   string
		says    string
	}{
		{[]holding{two, one}, []kv.Change{put(3, "guard", "1"), put(4, "guard", "2")}, "2", ""},
		{[]holding{one, {token: 2, from: at(9), to: at(20)}}, nil, "", "held the lock until"},
		{[]holding{one, {token: 1, from: at(11), to: at(20)}}, nil, "", "held the lock until"},
		{nil, []kv.Change{put(3, "guard", "2"), put(4, "guard", "1")}, "", `token "1" after 2`},
		{nil, []kv.Change{put(3, "guard", "1")}, "2", "token 2 was acknowledged"},
	} {
		r := plantedRound(t)
		k := newLocks(r)
		k.holding = c.holding
		if c.acked != "" {
			k.guarded[c.acked] = true
		}
		k.check(t.Context(), &record{last: 9, changes: c.guards})
		r.wantViolation(t, c.says)
	}
}

func TestPlantedWatch(t *testing.T) {
	rec := &record{last: 6, changes: []kv.Change{put(3, "a", "1"), put(5, "a", "2")}}
	for _, c := range []struct {
		told []kv.Change
		says string
	}{
		{[]kv.Change{rec.changes[0], rec.changes[1], put(7, "a", "3")}, ""},
		{rec.changes[:1], "change 1 of the watch"},
		{rec.changes[1:], "change 0 of the watch"},
		{[]kv.Change{rec.changes[0], rec.changes[0], rec.changes[1]}, "change 1 of the watch"},
		{[]kv.Change{rec.changes[0], put(5, "a", "x")}, "change 1 of the watch"},
	} {
		r := plantedRound(t)
		w := newWatches(r)
		w.told = c.told
		w.checkTold(rec)
		r.wantViolation(t, c.says)
	}
}

func TestPlantedSequence(t *testing.T) {
	item := func(version int64) kv.Item { return kv.Item{Key: "keep/r1/seq/0/000000", Version: version} }
	for _, c := range []struct {
		there []kv.Item
		fate  kv.Outcome
		says  string
	}{
		{[]kv.Item{item(1)}, kv.OutcomeDone, ""},
		{[]kv.Item{item(1)}, kv.OutcomeUnknown, ""},
		{nil, kv.OutcomeUnknown, ""},
		{nil, kv.OutcomeDone, "was acknowledged, and is lost"},
		{[]kv.Item{item(1)}, kv.OutcomeNotDone, "was not done, and is there"},
		{[]kv.Item{item(2)}, kv.OutcomeDone, "was written twice"},
		{[]kv.Item{item(2)}, kv.OutcomeUnknown, "was written twice"},
	} {
		r := plantedRound(t)
		s := newSequences(r)
		s.fates[item(1).Key] = c.fate
		s.judge(&record{}, c.there)
		r.wantViolation(t, c.says)
	}
	r := plantedRound(t)
	newSequences(r).judge(&record{changes: []kv.Change{put(3, "seq/0/000001", ""), put(4, "seq/0/000001", "")}}, nil)
	r.wantViolation(t, "was written twice")
}

// TestPlantedPower: a counter may go back to a write of unknown outcome that was under way
// when the power went, or in the cycle before, and to no older one.
func TestPlantedPower(t *testing.T) {
	newest := map[string]int{"counter/1": 7_000_004}
	p := &powerRun{cycles: 7, acked: []string{"c7/1"}, maybe: map[string]int{"counter/1=6000008": 6, "counter/1=5000008": 5}}
	for value, want := range map[string]int{"7000004": 0, "7000008": 0, "6000008": 0, "5000008": 1, "6000004": 1, "": 1} {
		p.newest = maps.Clone(newest)
		if lost := p.missing(map[string]string{"c7/1": "", "counter/1": value}); len(lost) != want {
			t.Errorf("%q: %q", value, lost)
		}
	}
	p.newest = newest
	if lost := p.missing(map[string]string{"counter/1": "7000004"}); len(lost) != 1 {
		t.Errorf("%q", lost)
	}
}

// TestPlantedIdleness: a round in which nothing was acknowledged, or decided, shows nothing.
func TestPlantedIdleness(t *testing.T) {
	for _, c := range []struct {
		acked     int64
		undecided int
		says      string
	}{{1, 0, ""}, {0, 0, "nothing was acknowledged"}, {1, 2, "2 histories are undecided"}} {
		r := plantedRound(t)
		r.acked, r.undecided = c.acked, c.undecided
		r.worked()
		r.wantViolation(t, c.says)
	}
}
