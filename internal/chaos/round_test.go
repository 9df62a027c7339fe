//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
)

// round is some seconds of work on keys of its own, with faults, and the check of
// what came of it.
type round struct {
	l      *lab
	prefix string // of its keys
	from   kv.Revision
	all    *client.Client // of all members
	tally
	histories, undecided int
	held                 int // how often the lock was

	background sync.WaitGroup
}

// workload is one of the things that clients do.
type workload interface {
	work(ctx context.Context, rng *rand.Rand, worker int)
	check(ctx context.Context, rec *record)
}

// anyKV is a client of all members, or of one: so that the members' own answers
// are checked, also of those that are cut off.
func (r *round) anyKV(rng *rand.Rand) interface {
	kv.KV
	kv.Lessor
} {
	if i := rng.IntN(2 * len(r.l.nodes)); i < len(r.l.nodes) {
		return r.l.nodes[i].kv
	}
	return r.all
}

// pause4 is between the operations of a worker.
func pause4(ctx context.Context, rng *rand.Rand) { pauseFor(ctx, between(rng, 5*ms, 25*ms)) }

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// someTime bounds an operation, at times too tightly.
func someTime(ctx context.Context, rng *rand.Rand) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), between(rng, 20*ms, 2500*ms))
}

// live runs the workloads while faults happens, and checks them when it is over.
// It returns the acknowledged keys that are to outlive the round, and whether all
// members serve again.
func (r *round) live(t *testing.T, seed uint64, faults func()) (kept []string, healed bool) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var err error
	if r.from, err = r.all.Revision(ctx); err != nil {
		r.l.violation("no revision at the beginning of a round: %v", err)
		return nil, false
	}
	seq, watching := newSequences(r), newWatches(r)
	crew := []struct {
		workload
		workers int
	}{{newRegisters(r), 6}, {newLists(r), 3}, {newLocks(r), 3}, {seq, 3}, {watching, 1}}
	r.tally.begin()
	var wg sync.WaitGroup
	for i, w := range crew {
		for k := range w.workers {
			wg.Go(func() { w.work(ctx, rand.New(rand.NewPCG(seed, uint64(100*i+k))), k) })
		}
	}
	faults()
	healed = r.l.waitReady(t, 30*time.Second)
	pauseFor(ctx, 200*ms)
	stop()
	wg.Wait()
	r.tally.end()
	defer r.background.Wait()

	checking, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if !healed {
		watching.cancel()
		return nil, false
	}
	rec, err := r.history(checking)
	if err != nil {
		r.l.violation("no history: %v", err)
		watching.cancel()
		return nil, false
	}
	for _, w := range crew {
		w.check(checking, rec)
	}
	r.worked()
	r.l.equal(checking, rec.last)
	if _, err := r.all.DeleteRange(checking, kv.Prefix(r.prefix)); err != nil {
		r.l.violation("the keys of a round cannot be deleted: %v", err)
	}
	return seq.kept(), true
}

// worked: where nothing was acknowledged, or decided, nothing is shown.
func (r *round) worked() {
	if r.acked == 0 {
		r.l.violation("nothing was acknowledged")
	}
	if r.undecided > 0 {
		r.l.violation("%d histories are undecided", r.undecided)
	}
}

// equal scans every member's own state at a revision, and compares.
func (l *lab) equal(ctx context.Context, rev kv.Revision) {
	var first string
	for _, n := range l.nodes {
		var b strings.Builder
		var err error
		for item, e := range n.kv.Scan(ctx, kv.All(), kv.AtLeast(rev), kv.AtRevision(rev)) { // waits for it, and asks nobody
			if err = e; err != nil {
				break
			}
			fmt.Fprintf(&b, "%q %q %d %d %d %d\n", item.Key, item.Value, item.CreateRevision, item.ModRevision, item.Version, item.Lease)
		}
		switch {
		case err != nil:
			l.violation("scan of %v at %d: %v", n, rev, err)
		case n == l.nodes[0]:
			first = b.String()
		case b.String() != first:
			l.violation("%v holds other data than member 1 at revision %d:\n%s", n, rev, difference(first, b.String()))
		}
	}
}

// difference is the first line in which texts differ.
func difference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i] + "\n" + bs[i]
		}
	}
	return fmt.Sprintf("%d lines and %d", len(as), len(bs))
}
