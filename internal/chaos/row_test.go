//go:build linux

package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// row is a line of the summary: rounds of a kind of faults.
type row struct {
	name                   string
	rounds, times, seconds int // rounds; faults of the kind; others beside them
	acked, unknown, failed int64
	elections              uint64
	gap                    time.Duration
	histories, undecided   int
	held                   int            // times that the lock was
	ends                   map[string]int // members that ended by the fault
	violations             int
}

func newRow(name string) *row { return &row{name: name, ends: map[string]int{}} }

// watchTerms counts elections by the terms that members tell.
func (w *row) watchTerms(ctx context.Context, l *lab) {
	var first, last uint64
	for ctx.Err() == nil {
		for _, n := range l.nodes {
			if s, err := n.tell(ctx); err == nil {
				if last = max(last, s.Term); first == 0 {
					first = s.Term
				}
			}
		}
		pauseFor(ctx, 200*ms)
	}
	w.elections = last - first
}

func (w *row) add(r *round) {
	w.rounds++
	w.acked, w.unknown, w.failed, w.gap = r.acked, r.unknown, r.failed, r.gap
	w.histories, w.undecided, w.held = r.histories, r.undecided, r.held
	for _, n := range r.l.nodes {
		n.mu.Lock()
		for class, times := range n.ends {
			w.ends[class] += times
		}
		n.ends = nil
		n.mu.Unlock()
	}
}

func (w *row) join(o *row) {
	w.rounds += o.rounds
	w.times += o.times
	w.seconds += o.seconds
	w.acked += o.acked
	w.unknown += o.unknown
	w.failed += o.failed
	w.elections += o.elections
	w.gap = max(w.gap, o.gap)
	w.histories += o.histories
	w.undecided += o.undecided
	w.held += o.held
	for class, times := range o.ends {
		w.ends[class] += times
	}
	w.violations += o.violations
}

const tableHead = "| fault | rounds | times | others beside | acknowledged | unknown | failed | terms | longest without a write | ended by it | histories | undecided | violations |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"

func (w *row) String() string {
	var ends []string
	for _, class := range slices.Sorted(maps.Keys(w.ends)) {
		ends = append(ends, fmt.Sprintf("%d %s", w.ends[class], class))
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %.1f s | %s | %d | %d | %d |", w.name, w.rounds, w.times, w.seconds,
		w.acked, w.unknown, w.failed, w.elections, w.gap.Seconds(), strings.Join(ends, ", "), w.histories, w.undecided, w.violations)
}

// sum is of all rows.
func (c *chaos) sum() *row {
	sum := newRow("all")
	for _, w := range c.rows {
		sum.join(w)
	}
	return sum
}

// table is the summary, in Markdown.
func (c *chaos) table() string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, name := range c.order {
		fmt.Fprintln(&b, c.rows[name])
	}
	fmt.Fprintln(&b, c.sum())
	for _, m := range marks {
		fmt.Fprintf(&b, "logged %d times: %s\n", c.marked[m], m)
	}
	for _, s := range c.skipped {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}
