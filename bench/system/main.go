package system

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"time"

	"github.com/replkv/replkv/bench/load"
)

// A Result is a line of output: a workload in one process.
type Result struct {
	System   string `json:"system"`
	Version  string `json:"version"`
	Workload string `json:"workload"`
	Round    int    `json:"round,omitempty"` // by compare
	Value    int    `json:"value_bytes"`
	load.Measure
	Extra map[string]float64 `json:"extra,omitempty"` // of the system, see Observer
}

// Options of a system's process.
type Options struct {
	Name   string
	Module string // whose version is told

	Dir       string
	Workloads []string
	Verify    string // "", "sync" or "linear": checks instead of workloads
	Warmup    time.Duration
	Duration  time.Duration
	Value     int
	Keys      int

	CPUProfile string // file, of all workloads
	Trace      string // file, of all workloads, by runtime/trace
}

// MemberDir is where member i of the system in dir keeps its files.
func MemberDir(dir string, i int) string { return filepath.Join(dir, fmt.Sprint("m", i)) }

// Main is the main function of a system's binary.
func Main(name, module string, open func(dir string) (System, error)) {
	o := Options{Name: name, Module: module}
	var workloads string
	flag.StringVar(&o.Dir, "dir", "", "where data lies meanwhile (default a temporary directory)")
	flag.StringVar(&workloads, "workloads", strings.Join(WorkloadNames(), ","), "what to run")
	flag.StringVar(&o.Verify, "verify", "", `"sync" or "linear": check instead of measure`)
	flag.DurationVar(&o.Warmup, "warmup", time.Second, "before each workload")
	flag.DurationVar(&o.Duration, "duration", 4*time.Second, "of each workload")
	flag.IntVar(&o.Value, "value", 256, "bytes of a value")
	flag.IntVar(&o.Keys, "keys", 100_000, "keys, written beforehand")
	flag.StringVar(&o.CPUProfile, "cpuprofile", "", "write a profile of the workloads to this file")
	flag.StringVar(&o.Trace, "trace", "", "write a trace of the workloads, by runtime/trace, to this file")
	flag.Parse()
	o.Workloads = strings.Split(workloads, ",")
	if err := run(o, open); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(o Options, open func(dir string) (System, error)) (err error) {
	workloads, err := FindWorkloads(o.Workloads)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "replkv-bench-"+o.Name+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := open(dir)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out := json.NewEncoder(os.Stdout)
	switch o.Verify {
	case "":
		return measure(o, s, workloads, out.Encode)
	case "sync":
		return syncs(s, out.Encode)
	case "linear":
		return linear(s, o.Duration, out.Encode)
	}
	return fmt.Errorf("no check %q", o.Verify)
}

// measure loads the data and runs the workloads.
func measure(o Options, s System, workloads []Workload, emit func(any) error) error {
	data := load.NewData(o.Keys, o.Value)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	err := load.Each(ctx, 512, len(data.Keys), func(ctx context.Context, i int, rng *rand.Rand) error {
		return s.Set(ctx, data.Keys[i], data.Value(rng))
	})
	if err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	stop, err := record(o.CPUProfile, pprof.StartCPUProfile, pprof.StopCPUProfile)
	if err != nil {
		return err
	}
	defer stop()
	stop, err = record(o.Trace, trace.Start, trace.Stop)
	if err != nil {
		return err
	}
	defer stop()
	for _, w := range workloads {
		if !w.possible(s) {
			continue
		}
		var kv KV = s
		if w.Remote {
			if kv, err = s.(Remoter).Remote(); err != nil {
				return err
			}
		}
		r := Result{System: o.Name, Version: version(o.Module), Workload: w.Name, Value: o.Value}
		observed := func() map[string]float64 { return nil }
		if ob, ok := s.(Observer); ok {
			observed = ob.Observe()
		}
		r.Measure = load.Run(load.Spec{Callers: w.Callers, Warmup: o.Warmup, Duration: o.Duration, Op: w.op(s, kv, data)})
		r.Extra = observed()
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}

// record begins a profile or a trace, and returns what ends it. Without a file
// it does nothing.
func record(name string, begin func(io.Writer) error, end func()) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := begin(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		end()
		_ = f.Close() // what is recorded says whether it is whole
	}, nil
}
