package system

import (
	"context"
	"fmt"
	"strings"

	"github.com/replkv/replkv/bench/load"
)

// A Workload is what each of so many callers repeats.
type Workload struct {
	Name    string
	Callers int
	Does    does
	Remote  bool // through the system's client over TCP
}

type does int

const (
	sets   does = iota
	gets        // on the leader
	spread      // gets, the callers spread over all members
	mixed       // sets and gets, half and half
)

// Workloads are all there are, in the order in which one process runs them.
var Workloads = []Workload{
	{Name: "set1", Callers: 1, Does: sets},
	{Name: "set64", Callers: 64, Does: sets},
	{Name: "set512", Callers: 512, Does: sets},
	{Name: "get64", Callers: 64, Does: gets},
	{Name: "get512", Callers: 512, Does: gets},
	{Name: "getall512", Callers: 512, Does: spread},
	{Name: "grpcset64", Callers: 64, Does: sets, Remote: true},
	{Name: "grpcget64", Callers: 64, Does: gets, Remote: true},
	{Name: "mixed64", Callers: 64, Does: mixed},
}

// WorkloadNames are those of Workloads.
func WorkloadNames() []string {
	var out []string
	for _, w := range Workloads {
		out = append(out, w.Name)
	}
	return out
}

// FindWorkloads returns those with these names, in their own order.
func FindWorkloads(names []string) ([]Workload, error) {
	var out []Workload
	known := map[string]bool{}
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	for _, w := range Workloads {
		known[w.Name] = true
		if wanted[w.Name] {
			out = append(out, w)
		}
	}
	for n := range wanted {
		if !known[n] {
			return nil, fmt.Errorf("no workload %q; there are %s", n, strings.Join(WorkloadNames(), ", "))
		}
	}
	return out, nil
}

// possible says whether the system can do it at all.
func (w Workload) possible(s System) bool {
	_, remote := s.(Remoter)
	return (!w.Remote || remote) && (w.Does != spread || s.Readers() > 1)
}

// op binds the workload to a system, reached by kv.
func (w Workload) op(s System, kv KV, data *load.Data) func(context.Context, *load.Caller) error {
	set := func(ctx context.Context, c *load.Caller) error {
		return kv.Set(ctx, data.Key(c.Rand), data.Value(c.Rand))
	}
	get := func(ctx context.Context, c *load.Caller) error {
		return checkValue(data)(kv.Get(ctx, data.Key(c.Rand)))
	}
	switch w.Does {
	case sets:
		return set
	case gets:
		return get
	case spread:
		return func(ctx context.Context, c *load.Caller) error {
			return checkValue(data)(s.GetAny(ctx, c.Index%s.Readers(), data.Key(c.Rand)))
		}
	}
	return func(ctx context.Context, c *load.Caller) error {
		if c.Rand.IntN(2) == 0 {
			return set(ctx, c)
		}
		return get(ctx, c)
	}
}

func checkValue(data *load.Data) func(v []byte, err error) error {
	return func(v []byte, err error) error {
		if err == nil && len(v) != data.ValueSize {
			return errMissing
		}
		return err
	}
}
