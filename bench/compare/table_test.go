package main

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/replkv/replkv/bench/load"
	"github.com/replkv/replkv/bench/system"
)

// made is five rounds, of which the third is the median.
func made(workload, name string, ops float64) (out []system.Result) {
	for round, f := range []float64{0.5, 2, 1, 0.9, 1.1} {
		out = append(out, system.Result{System: name, Workload: workload, Round: round + 1,
			Measure: load.Measure{Ops: 10, Seconds: 1, OpsPerSecond: ops * f, P50Micros: 1000 / f, CPUSecondsPerKop: 0.02, PeakRSSMB: 400}})
	}
	return out
}

// atReference is a run in which every peer reaches its reference, and replkv ten
// times that of dragonboat or etcd.
func atReference(workload string, peers float64) (out []system.Result) {
	out = made(workload, "pebble", 129_000)
	out = append(out, made(workload, "dragonboat", 51_100*peers)...)
	out = append(out, made(workload, "etcd", 13_000*peers)...)
	return append(out, made(workload, "replkv", 2*51_100)...)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		before := slices.Clone(c.in)
		if got := median(c.in); got != c.want || !slices.Equal(before, c.in) {
			t.Errorf("median of %v is %v", c.in, got)
		}
	}
}

func TestRow(t *testing.T) {
	r := medians(made("set512", "etcd", 100))
	if r.OpsPerSecond != 100 || r.P50Micros != 1000 || r.Ops != 50 || r.rounds != 5 || math.Abs(r.spread-1.5) > 1e-9 {
		t.Errorf("%+v", r)
	}
}

func TestTableCounts(t *testing.T) {
	passed := map[string]error{}
	tab := newTable(atReference("set512", 0.85), 5, passed)
	if checks, why := tab.judge("set512"); len(why) > 0 || len(checks) != 2 || math.Abs(checks[0].share-0.85) > 1e-9 {
		t.Errorf("%v, %v", checks, why)
	}
	for name, c := range map[string]struct {
		table *table
		why   string
	}{
		"a slow peer":     {newTable(atReference("set512", 0.75), 5, passed), "etcd is at 75%"},
		"few rounds":      {newTable(atReference("set512", 1), 3, passed), "3 rounds of 5"},
		"a failed round":  {newTable(atReference("set512", 1)[1:], 5, passed), "pebble failed in 1 of 5"},
		"no limit":        {newTable(atReference("set512", 1)[5:], 5, passed), "no row of Pebble"},
		"not trustworthy": {newTable(atReference("set512", 1), 5, map[string]error{"etcd": errors.New("stale")}), "etcd: stale"},
	} {
		if _, why := c.table.judge("set512"); !strings.Contains(strings.Join(why, "; "), c.why) {
			t.Errorf("%s: %v, want %q", name, why, c.why)
		}
	}
}

func TestBars(t *testing.T) {
	tab := newTable(append(atReference("set512", 1), made("get512", "replkv", 100)...), 5, nil)
	tab.rows["getall512"] = []row{{system: "replkv", Measure: load.Measure{OpsPerSecond: 70}, extra: map[string]float64{"read_index_rpcs_in_flight": 1}}}
	var got []string
	for _, b := range bars {
		if text, _ := b.evaluate(tab); text != "" {
			got = append(got, b.workload+": "+text)
		}
	}
	want := []string{
		"set512: 2.00x dragonboat (bar 1.5): met",
		"set512: 7.86x etcd (bar 5): met",
		"set512: CPU s per 1000 0.02 (bar at most 0.022): met",
		"set512: peak RSS MB 400 (bar at most 500): met",
		"get512: against dragonboat (bar 2): not measured",
		"get512: against etcd (bar 2): not measured",
		"getall512: 0.70x replkv in get512 (bar 0.8): NOT MET",
		"getall512: read-index RPCs in flight per member 1 (bar at most 1): met",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	printTables(&b, newTable(atReference("set512", 1), 5, nil))
	if s := b.String(); !strings.Contains(s, "the table counts") || !strings.Contains(s, "2.00x") || !strings.Contains(s, "102200") {
		t.Error(s)
	}
	b.Reset()
	printBench(&b, made("set512", "etcd", 100))
	if s := b.String(); strings.Count(s, "BenchmarkSet512/system=etcd-") != 5 || !strings.Contains(s, " 100000000.0 ns/op ") {
		t.Error(s)
	}
}

func TestRotated(t *testing.T) {
	names := []string{"a", "b", "c"}
	if got := rotated(names, 4); !slices.Equal(got, []string{"b", "c", "a"}) || names[0] != "a" {
		t.Error(got)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-systems", "x"}, {"-workloads", "set2"}, {"-format", "xml"}, {"-rounds"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	o, err := parse([]string{"-systems", "etcd", "-workloads", "set1,get64"})
	if err != nil || len(o.systems) != 1 || len(o.workloads) != 2 || o.rounds != 5 || !o.verify {
		t.Errorf("%+v, %v", o, err)
	}
}
