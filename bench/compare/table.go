package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/replkv/replkv/bench/load"
	"github.com/replkv/replkv/bench/system"
)

// A row is the medians over the rounds of a system in a workload.
type row struct {
	system, version string
	rounds          int
	load.Measure    // Ops and Errors are sums
	extra           map[string]float64
	spread          float64 // of ops/s over the rounds: (max - min) / median
}

// A table holds rows by workload.
type table struct {
	workloads []string
	rows      map[string][]row
	rounds    int
	verified  map[string]error // by system; nil: it was, and passed
}

func newTable(results []system.Result, rounds int, verified map[string]error) *table {
	type cell struct{ workload, system string }
	byCell := map[cell][]system.Result{}
	for _, r := range results {
		c := cell{r.Workload, r.System}
		byCell[c] = append(byCell[c], r)
	}
	t := &table{rows: map[string][]row{}, rounds: rounds, verified: verified}
	for _, w := range system.WorkloadNames() {
		for _, s := range systems {
			if rs := byCell[cell{w, s}]; len(rs) > 0 {
				t.rows[w] = append(t.rows[w], medians(rs))
			}
		}
		if len(t.rows[w]) > 0 {
			t.workloads = append(t.workloads, w)
		}
	}
	return t
}

// find returns the row of a system in a workload, nil if there is none.
func (t *table) find(workload, system string) *row {
	for i, r := range t.rows[workload] {
		if r.system == system {
			return &t.rows[workload][i]
		}
	}
	return nil
}

func medians(rs []system.Result) row {
	of := func(get func(*system.Result) float64) float64 { return median(valuesOf(rs, get)) }
	out := row{system: rs[0].System, version: rs[0].Version, rounds: len(rs), extra: map[string]float64{}}
	out.Callers, out.Seconds = rs[0].Callers, rs[0].Seconds
	for i := range rs {
		out.Ops += rs[i].Ops
		out.Errors += rs[i].Errors
		out.FirstError = cmp.Or(out.FirstError, rs[i].FirstError)
		for name := range rs[i].Extra {
			out.extra[name] = of(func(r *system.Result) float64 { return r.Extra[name] })
		}
	}
	ops := func(r *system.Result) float64 { return r.OpsPerSecond }
	out.OpsPerSecond = of(ops)
	out.P50Micros = of(func(r *system.Result) float64 { return r.P50Micros })
	out.P95Micros = of(func(r *system.Result) float64 { return r.P95Micros })
	out.P99Micros = of(func(r *system.Result) float64 { return r.P99Micros })
	out.MaxMicros = of(func(r *system.Result) float64 { return r.MaxMicros })
	out.CPUSecondsPerKop = of(func(r *system.Result) float64 { return r.CPUSecondsPerKop })
	out.PeakRSSMB = of(func(r *system.Result) float64 { return r.PeakRSSMB })
	out.WrittenPerOp = of(func(r *system.Result) float64 { return r.WrittenPerOp })
	out.AllocsPerOp = of(func(r *system.Result) float64 { return r.AllocsPerOp })
	out.OthersCPU = of(func(r *system.Result) float64 { return r.OthersCPU })
	if all := valuesOf(rs, ops); out.OpsPerSecond > 0 {
		out.spread = (slices.Max(all) - slices.Min(all)) / out.OpsPerSecond
	}
	return out
}

func valuesOf(rs []system.Result, get func(*system.Result) float64) []float64 {
	var out []float64
	for i := range rs {
		out = append(out, get(&rs[i]))
	}
	return out
}

// median is the mean of the two in the middle if there are as many above as
// below.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// A check is how a peer's row compares with its reference.
type check struct {
	system    string
	ratio     float64 // to Pebble
	reference float64
	share     float64 // of the reference
}

func (c check) String() string {
	verdict := "counts"
	if c.share < requiredShare {
		verdict = "DOES NOT COUNT"
	}
	return fmt.Sprintf("%s: %.4f of one Pebble, reference %.4f: %.0f%%: %s", c.system, c.ratio, c.reference, 100*c.share, verdict)
}

// judge compares the peers of a workload with their references, and says why
// the workload's table does not count, if so.
func (t *table) judge(workload string) (checks []check, why []string) {
	if t.rounds < requiredRounds {
		why = append(why, fmt.Sprintf("%d rounds of %d", t.rounds, requiredRounds))
	}
	for _, r := range t.rows[workload] {
		if r.rounds < t.rounds {
			why = append(why, fmt.Sprintf("%s failed in %d of %d rounds", r.system, t.rounds-r.rounds, t.rounds))
		}
		if err := t.verified[r.system]; err != nil {
			why = append(why, fmt.Sprintf("%s: %v", r.system, err))
		}
	}
	for _, ref := range references {
		peer := t.find(workload, ref.system)
		if ref.workload != workload || peer == nil {
			continue
		}
		limit := t.find(pebbleWorkload[workload], "pebble")
		if limit == nil || limit.OpsPerSecond == 0 {
			return checks, append(why, "there is no row of Pebble to compare with")
		}
		c := check{system: ref.system, ratio: peer.OpsPerSecond / limit.OpsPerSecond, reference: ref.ops / ref.pebble}
		c.share = c.ratio / c.reference
		checks = append(checks, c)
		if c.share < requiredShare {
			why = append(why, fmt.Sprintf("%s is at %.0f%% of its reference", c.system, 100*c.share))
		}
	}
	return checks, why
}
