package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/replkv/replkv"
)

// Op is one operation of a history, whatever workload made it.
type Op struct {
	Client int
	Member string // whom it asked
	Kind   string
	Key    string // of what concerns one key

	// What was asked.
	Puts        map[string]string // key -> value
	Dels        []string
	Under       string           // all keys with this prefix are to be deleted; Dels are those that were
	If          replkv.Revision  // the revision that Key must have; with Conditional
	When        []replkv.Compare // of keys, what a transaction demands
	At          replkv.Revision  // asked for, by a read
	Age         time.Duration    // at most so old, for a read
	Conditional bool
	Prefix      string // of a scan: what it did not find of this was not there
	Stale       bool   // a read that need not be linearizable: of Least and above

	// What was answered.
	Read     map[string]replkv.Item // keys that were absent are there with the zero Item
	Deleted  int64
	Revision replkv.Revision // of the write, or at which a transaction read; 0: not told
	Outcome  replkv.Outcome
	Err      error

	// Call and Return order operations as a clock that never stands still would;
	// Return is open if the outcome is unknown.
	Call, Return int64
	Began, Ended time.Time       // virtual
	After        replkv.Revision // the highest that anybody had been answered when it was called
	Least, Most  replkv.Revision // what a read may see: of these revisions; Most 0: the newest
}

// open is the Return of an operation that may take effect at any later time.
const open = math.MaxInt64

// Known says whether the operation was done, and answered.
func (o *Op) Known() bool { return o.Outcome == replkv.OutcomeDone && o.Err == nil }

// Writes says whether it was to change something.
func (o *Op) Writes() bool { return len(o.Puts)+len(o.Dels) > 0 || o.Under != "" }

// dropped says whether it was done, and its answer lost.
func (o *Op) dropped() bool { return o.Outcome == replkv.OutcomeDone && o.Err != nil }

// deletes says whether it may have deleted key.
func (o *Op) deletes(key string) bool {
	return slices.Contains(o.Dels, key) || o.Under != "" && !o.Known() && strings.HasPrefix(key, o.Under)
}

func (o *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d on %s: %s", o.Client, o.Member, o.Kind)
	if o.Key != "" {
		fmt.Fprintf(&b, " %s", o.Key)
	}
	if o.Conditional {
		fmt.Fprintf(&b, " if at %d", o.If)
	}
	for _, k := range slices.Sorted(maps.Keys(o.Puts)) {
		fmt.Fprintf(&b, " %s:=%.40q", k, o.Puts[k])
	}
	if o.Under != "" {
		fmt.Fprintf(&b, " all of %s:", o.Under)
	}
	for _, k := range o.Dels {
		fmt.Fprintf(&b, " -%s", k)
	}
	if o.Err != nil {
		fmt.Fprintf(&b, " -> %v: %v", o.Outcome, o.Err)
		return b.String()
	}
	fmt.Fprintf(&b, " -> revision %d", o.Revision)
	for _, k := range slices.Sorted(maps.Keys(o.Read)) {
		it := o.Read[k]
		fmt.Fprintf(&b, " %s=%.40q (%d, version %d)", k, it.Value, it.ModRevision, it.Version)
	}
	return b.String()
}

// history records operations.
type history struct {
	mu      sync.Mutex // protects the fields below
	clock   int64
	highest replkv.Revision
	acked   []moment // what highest was, and when
	ops     []*Op
}

type moment struct {
	at  time.Time
	rev replkv.Revision
}

func (h *history) begin(op *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	op.Call, op.Began, op.After = h.clock, time.Now(), h.highest
	if !op.Stale {
		op.Least = op.After
	}
}

// end notes the outcome. A failed read tells nothing and is left out.
func (h *history) end(op *Op, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	op.Return, op.Ended, op.Err, op.Outcome = h.clock, time.Now(), err, replkv.OutcomeOf(err)
	if op.Outcome == replkv.OutcomeUnknown {
		op.Return = open
	}
	h.ops = append(h.ops, op)
	if !op.Known() {
		return
	}
	high := op.Revision
	for _, it := range op.Read {
		high = max(high, it.ModRevision)
	}
	if high > h.highest {
		h.highest = high
		h.acked = append(h.acked, moment{op.Ended, high})
	}
}

// note records an operation of nobody's.
func (r *run) note(op *Op, call func() error) error {
	r.hist.begin(op)
	err := call()
	r.hist.end(op, err)
	return err
}

// known counts the operations that were done, and answered.
func (h *history) known() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		if o.Known() {
			n++
		}
	}
	return n
}

// ackedBefore is the highest revision that anybody had been answered by a moment.
func (h *history) ackedBefore(at time.Time) (rev replkv.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.acked {
		if m.at.After(at) {
			break
		}
		rev = m.rev
	}
	return rev
}

// of returns the operations of some kinds.
func (h *history) of(kinds ...string) (out []*Op) {
	for _, o := range h.ops {
		if slices.Contains(kinds, o.Kind) {
			out = append(out, o)
		}
	}
	return out
}
