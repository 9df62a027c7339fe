package main

import "fmt"

// A bar is what replkv has to reach in a workload: in relation to another row of
// the same run, or, without one, absolutely.
type bar struct {
	workload string
	what     string // of what, "" for ops/s
	of       func(*row) float64
	limit    float64
	atMost   bool // else at least
	system   string
	against  string // workload; "" for the same
}

func opsOf(r *row) float64 { return r.OpsPerSecond }

// bars are those of the issue on speed.
var bars = []bar{
	{workload: "set512", of: opsOf, limit: 1.5, system: "dragonboat"},
	{workload: "set512", of: opsOf, limit: 5, system: "etcd"},
	{workload: "set512", what: "CPU s per 1000", of: func(r *row) float64 { return r.CPUSecondsPerKop }, limit: 0.022, atMost: true},
	{workload: "set512", what: "peak RSS MB", of: func(r *row) float64 { return r.PeakRSSMB }, limit: 500, atMost: true},
	{workload: "set64", of: opsOf, limit: 1.5, system: "dragonboat"},
	{workload: "set64", of: opsOf, limit: 3, system: "etcd"},
	{workload: "set1", what: "p50", of: func(r *row) float64 { return r.P50Micros }, limit: 1.1, atMost: true, system: "etcd"},
	{workload: "get64", of: opsOf, limit: 2, system: "dragonboat"},
	{workload: "get64", of: opsOf, limit: 2, system: "etcd"},
	{workload: "get512", of: opsOf, limit: 2, system: "dragonboat"},
	{workload: "get512", of: opsOf, limit: 2, system: "etcd"},
	{workload: "getall512", of: opsOf, limit: 0.8, system: "replkv", against: "get512"},
	{workload: "getall512", what: "read-index RPCs in flight per member",
		of: func(r *row) float64 { return r.extra["read_index_rpcs_in_flight"] }, limit: 1, atMost: true},
	{workload: "grpcset64", of: opsOf, limit: 3, system: "etcd"},
	{workload: "grpcget64", of: opsOf, limit: 3, system: "etcd"},
}

// evaluate says whether the bar is met: "1.90x dragonboat (bar 1.5): met".
func (b bar) evaluate(t *table) (text string, met bool) {
	mine := t.find(b.workload, "replkv")
	if mine == nil {
		return "", false
	}
	value := b.of(mine)
	subject := fmt.Sprintf("%s %.4g", b.what, value)
	if b.system != "" {
		workload := b.workload
		name := b.system
		if b.against != "" {
			workload, name = b.against, b.system+" in "+b.against
		}
		other := t.find(workload, b.system)
		if other == nil || b.of(other) == 0 {
			return fmt.Sprintf("against %s (bar %g): not measured", name, b.limit), false
		}
		value /= b.of(other)
		subject = fmt.Sprintf("%.2fx %s", value, name)
		if b.what != "" {
			subject = b.what + " " + subject
		}
	}
	met = value >= b.limit
	verb := "bar"
	if b.atMost {
		met, verb = value <= b.limit, "bar at most"
	}
	verdict := "NOT MET"
	if met {
		verdict = "met"
	}
	return fmt.Sprintf("%s (%s %g): %s", subject, verb, b.limit, verdict), met
}
