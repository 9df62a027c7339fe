package sim

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/sim/cluster"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// committed makes a past of puts and deletions, "key=value" and "-key", by revision, the
// first of which is 2. A revision without any was seen by nobody.
func committed(t *testing.T, revisions ...[]string) *past {
	t.Helper()
	events := map[replkv.Revision][]replkv.Event{}
	state := map[string]replkv.Item{}
	for i, texts := range revisions {
		rev := replkv.Revision(i + 2)
		for _, text := range texts {
			key, value, put := strings.Cut(text, "=")
			if !put {
				key = strings.TrimPrefix(key, "-")
				events[rev] = append(events[rev], replkv.Event{Kind: replkv.EventDelete, Item: replkv.Item{Key: key, ModRevision: rev}})
				delete(state, key)
				continue
			}
			it := state[key]
			if it.Version++; it.Version == 1 {
				it.Key, it.CreateRevision = key, rev
			}
			it.Value, it.ModRevision = []byte(value), rev
			state[key] = it
			events[rev] = append(events[rev], replkv.Event{Kind: replkv.EventPut, Item: it})
		}
	}
	p, err := newPast(events, replkv.Revision(len(revisions)+1))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	errLost     = &replkv.Error{Op: "Set", Outcome: replkv.OutcomeUnknown, Err: replkv.ErrOutcomeUnknown}
	errRefused  = &replkv.Error{Op: "Set", Outcome: replkv.OutcomeNotDone, Err: replkv.ErrNoLeader}
	errConflict = &replkv.Error{Op: "Set", Outcome: replkv.OutcomeNotDone, Err: replkv.ErrConflict}
	errDropped  = &replkv.Error{Op: "Set", Outcome: replkv.OutcomeDone, Err: replkv.ErrResultDropped}
)

// planted judges a history: of operations that came one after the other, but for what
// they say of their times.
func planted(t *testing.T, p *past, ops []Op) *run {
	t.Helper()
	r := newRun(Config{Length: DefaultLength}, plan{members: 3})
	r.past = p
	for i := range ops {
		o := ops[i]
		o.Outcome = replkv.OutcomeOf(o.Err)
		if o.Call == 0 {
			o.Call, o.Return = int64(2*i+1), int64(2*i+2)
		}
		if o.Outcome == replkv.OutcomeUnknown {
			o.Return = open
		}
		o.Least = max(o.Least, o.After)
		r.hist.ops = append(r.hist.ops, &o)
	}
	r.check()
	return r
}

type texts = map[string]string

func TestPlantedHistories(t *testing.T) {
	set := func(key, value string, rev replkv.Revision, err error) Op {
		return Op{Kind: kindSet, Key: key, Puts: texts{key: value}, Revision: rev, Err: err}
	}
	with := func(o Op, change func(*Op)) Op {
		change(&o)
		return o
	}
	after := func(rev replkv.Revision) func(*Op) { return func(o *Op) { o.After = rev } }
	a, b := "register/1", "register/2"
	update := func(puts texts, err error) Op { return Op{Kind: kindUpdate, Puts: puts, Err: err} }
	wipe := func(rev replkv.Revision, err error, dels ...string) Op {
		return Op{Kind: "delete range", Under: setPrefix, Dels: dels, Deleted: int64(len(dels)), Revision: rev, Err: err}
	}
	nothing := with(wipe(2, nil), func(o *Op) { o.Prefix, o.Read = setPrefix, map[string]replkv.Item{} })
	create := func(key string, rev replkv.Revision, err error) Op {
		return with(set(key, "1.1", rev, err), func(o *Op) { o.Conditional = true })
	}
	one, two := []string{a + "=x"}, []string{a + "=x", b + "=y"}
	s1, s2 := "set/1=1.1", "set/2=1.1"
	txn := Op{Kind: kindTxn, Puts: texts{b: "y"}, When: []replkv.Compare{replkv.ValueIs(a, []byte("x"))}}
	for name, c := range map[string]struct {
		past []string // each a revision, its events separated by commas
		ops  []Op
		says string
	}{
		"fine":                   {[]string{a + "=x"}, []Op{set(a, "x", 2, nil)}, ""},
		"unknown, done":          {[]string{a + "=x"}, []Op{set(a, "x", 0, errLost)}, ""},
		"unknown, not done":      {nil, []Op{set(a, "x", 0, errLost)}, ""},
		"half of an unknown one": {one, []Op{update(texts{a: "x", b: "y"}, errLost)}, "revision 2 has"},
		"all of an unknown one":  {[]string{strings.Join(two, ",")}, []Op{update(texts{a: "x", b: "y"}, errLost)}, ""},
		"unknown, done before it was called": {[]string{a + "=x", b + "=y"},
			[]Op{set(b, "y", 3, nil), with(set(a, "x", 0, errLost), after(3))}, "done at 2 although 3 had been answered"},
		"write skew of an unknown one": {[]string{b + "=y", b + "=z", a + "=x"},
			[]Op{set(b, "y", 2, nil), set(b, "z", 3, nil), with(update(texts{a: "x"}, errLost), func(o *Op) {
				o.Read = map[string]replkv.Item{b: {Key: b, Value: []byte("y"), CreateRevision: 2, ModRevision: 2, Version: 1}}
			})}, "read what was true at 2"},
		"unknown, although there was one": {[]string{"set/1=0.0", "set/1=1.1"},
			[]Op{create("set/1", 2, nil), create("set/1", 0, errLost)}, "the condition did not hold at 2"},
		"a conflict with nothing":     {nil, []Op{create("set/1", 0, errConflict)}, "the condition held from"},
		"a conflict":                  {[]string{"set/1=0.0"}, []Op{set("set/1", "0.0", 2, nil), with(create("set/1", 0, errConflict), after(2))}, ""},
		"not done, and there":         {one, []Op{set(a, "x", 0, errRefused)}, "not done, and is at 2"},
		"answer dropped, and lost":    {nil, []Op{set(a, "x", 0, errDropped)}, "done, and is nowhere"},
		"answer dropped":              {one, []Op{set(a, "x", 0, errDropped)}, ""},
		"half, answer dropped":        {one, []Op{update(texts{a: "x", b: "y"}, errDropped)}, "revision 2 has"},
		"wiped":                       {[]string{s1, s2, "-set/1,-set/2"}, []Op{create("set/1", 2, nil), create("set/2", 3, nil), wipe(4, nil, "set/1", "set/2")}, ""},
		"wiped, unknown":              {[]string{s1, "-set/1"}, []Op{create("set/1", 2, nil), wipe(0, errLost)}, ""},
		"wiped, not all":              {[]string{s1, s2, "-set/1"}, []Op{create("set/1", 2, nil), create("set/2", 3, nil), wipe(4, nil, "set/1")}, "revision 4 leaves set/2"},
		"wiped, unknown, not all":     {[]string{s1, s2, "-set/1"}, []Op{create("set/1", 2, nil), create("set/2", 3, nil), wipe(0, errLost)}, "revision 4 leaves set/2"},
		"wiped nothing":               {[]string{s1}, []Op{create("set/1", 2, nil), with(nothing, after(2))}, "found keys absent"},
		"wiped, not done":             {[]string{s1, "-set/1"}, []Op{create("set/1", 2, nil), wipe(0, errRefused)}, "nobody asked for revision 3"},
		"wiped twice, asked once":     {[]string{s1, "-set/1", s2, "-set/2"}, []Op{create("set/1", 2, nil), create("set/2", 4, nil), wipe(0, errLost)}, "nobody asked for revision 5"},
		"wiped, dropped, and not":     {[]string{s1}, []Op{create("set/1", 2, nil), wipe(0, errDropped)}, "done, and is nowhere"},
		"nobody's value":              {one, nil, "nobody asked for revision 2"},
		"nobody's deletion":           {[]string{a + "=x", "-" + a}, []Op{set(a, "x", 2, nil)}, "nobody asked for revision 3"},
		"deleted, unknown, no reason": {[]string{a + "=x", "-" + a}, []Op{set(a, "x", 2, nil), {Kind: kindDelIf, Key: a, Dels: []string{a}, Conditional: true, If: 9, Err: errLost}}, "nobody asked for revision 3"},
		"deleted, unknown":            {[]string{a + "=x", "-" + a}, []Op{set(a, "x", 2, nil), {Kind: kindDelIf, Key: a, Dels: []string{a}, Conditional: true, If: 2, Err: errLost}}, ""},
		"a transaction":               {[]string{a + "=x", b + "=y"}, []Op{set(a, "x", 2, nil), with(txn, func(o *Op) { o.Revision = 3 })}, ""},
		"a transaction in vain":       {[]string{a + "=z", b + "=y"}, []Op{set(a, "z", 2, nil), with(txn, func(o *Op) { o.Err = errLost })}, "the condition did not hold at 2"},
		"a transaction refused":       {one, []Op{set(a, "x", 2, nil), with(txn, func(o *Op) { o.Revision, o.Err = 2, errConflict })}, "the condition held at 2"},
		"read before it was written": {[]string{b + "=y", a + "=x"},
			[]Op{set(b, "y", 2, nil), {Kind: kindGet, Key: a, Read: map[string]replkv.Item{a: {}}, After: 2}, set(a, "x", 3, nil)}, ""},
		"found nothing after a write": {[]string{a + "=x", b + "=y", "-" + a},
			[]Op{set(a, "x", 2, nil), {Kind: kindScan, Prefix: a, Read: map[string]replkv.Item{}, After: 2}, set(b, "y", 3, nil), {Kind: kindDelete, Key: a, Dels: []string{a}, Deleted: 1, Revision: 4, After: 3}},
			"found keys absent"},
		"what followed a gap":   {[]string{a + "=x", "", a + "=y"}, []Op{set(a, "x", 2, nil), set(a, "y", 4, nil)}, ""},
		"nobody's, after a gap": {[]string{"", a + "=y"}, nil, "nobody asked for revision 3"},
	} {
		var revisions [][]string
		for _, events := range c.past {
			revisions = append(revisions, strings.FieldsFunc(events, func(r rune) bool { return r == ',' }))
		}
		r := planted(t, committed(t, revisions...), c.ops)
		found := strings.Join(r.failures, "\n")
		if c.says == "" && found != "" || !strings.Contains(found, c.says) {
			t.Errorf("%s: want %q, got %q", name, c.says, found)
		}
	}
}

// TestPlantedSums: money is counted wherever all accounts are known, and lists where what
// was before is.
func TestPlantedSums(t *testing.T) {
	all := []string{"account/0=100", "account/1=100", "account/2=100", "account/3=100", "account/4=100"}
	for name, c := range map[string]struct {
		past [][]string
		says string
	}{
		"fine":                     {[][]string{all, {"account/0=90", "account/1=110"}}, ""},
		"lost":                     {[][]string{all, {"account/0=90"}}, "there are 490, not 500"},
		"lost, nobody saw":         {[][]string{all, nil, {"account/0=90"}}, ""},
		"lost after that":          {[][]string{all, nil, all, {"account/0=90"}}, "there are 490, not 500"},
		"appended":                 {[][]string{{"list/0= a"}, {"list/0= a b"}}, ""},
		"forgotten":                {[][]string{{"list/0= a"}, {"list/0= b"}}, `makes " b" of " a"`},
		"appended after a gap":     {[][]string{{"list/0= a"}, nil, {"list/0= a b c"}}, ""},
		"forgotten, behind a gap":  {[][]string{{"list/0= a"}, nil, {"list/0= a b c"}, {"list/0= a b d"}}, `makes " a b d"`},
		"a version that was never": {[][]string{nil, {"list/0= a"}, {"list/0= a b"}}, ""},
	} {
		r := newRun(Config{Length: DefaultLength}, plan{})
		r.past = committed(t, c.past...)
		(&bank{}).check(r)
		appends{}.check(r)
		r.past.checkVersions(r)
		found := strings.Join(r.failures, "\n")
		if c.says == "" && found != "" || !strings.Contains(found, c.says) {
			t.Errorf("%s: want %q, got %q", name, c.says, found)
		}
	}
}

// TestPlantedIgnorance: a run that knows nothing of what was committed has shown nothing.
func TestPlantedIgnorance(t *testing.T) {
	r := planted(t, nil, nil)
	if !strings.Contains(strings.Join(r.failures, "\n"), "nothing is known of what was committed") {
		t.Errorf("got %q", r.failures)
	}
	for seed := range uint64(400) {
		p, err := newPlan(Config{Seed: seed})
		if err != nil || p.history >= 0 && !strings.Contains(strings.Join(p.workloads, " "), "watch") {
			t.Errorf("seed %d, of which nobody tells what was committed: %v, %v", seed, &p, err)
		}
	}
}

// TestPlantedIdleness: a run in which nothing is acknowledged has shown nothing.
func TestPlantedIdleness(t *testing.T) {
	r := planted(t, committed(t), []Op{{Kind: kindGet, Key: "register/1", Err: errRefused}})
	if r.checkLoad(); len(r.failures) != 1 {
		t.Errorf("got %q", r.failures)
	}
	c := Coverage{}
	if got := c.Missing(SomeSeeds - 1); len(got) != 0 {
		t.Errorf("few seeds: %q", got)
	}
	for _, n := range []int{SomeSeeds, ManySeeds} {
		if got := c.Missing(n); !slices.Contains(got, countDone) {
			t.Errorf("%d seeds: %q", n, got)
		}
	}
}

// TestPlantedEnds: a member whose disk fails may stop because of that, and of nothing else.
func TestPlantedEnds(t *testing.T) {
	for _, c := range []struct {
		failing, ends error
		fine          bool
	}{
		{syscall.EIO, fmt.Errorf("the log: %w", syscall.EIO), true},
		{syscall.EIO, raftlog.ErrStalled, true},
		{syscall.EIO, replkv.ErrRemoved, true},
		{syscall.EIO, syscall.ENOSPC, false},
		{syscall.EIO, replkv.ErrCorrupt, false},
		{nil, syscall.EIO, false},
	} {
		r := newRun(Config{}, plan{members: 3})
		r.log, r.c = &timeline{}, cluster.New(3)
		r.nemesis = newNemesis(r)
		r.nemesis.edges(0, &hook.Edges{FS: disk.NewMem()})
		r.nemesis.members[0].failing = c.failing
		if r.nemesis.ended(0, c.ends); (len(r.failures) == 0) != c.fine {
			t.Errorf("a disk that fails with %v, and a member that stops with %v: %q", c.failing, c.ends, r.failures)
		}
	}
}
