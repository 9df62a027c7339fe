package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/replkv/replkv/bench/load"
	"github.com/replkv/replkv/bench/system"
)

// systems are those there are binaries of, under cmd.
var systems = []string{"replkv", "etcd", "dragonboat", "handraft", "pebble"}

type options struct {
	systems   []string
	workloads []string
	rounds    int
	format    string
	out       string
	fresh     bool
	verify    bool
	settle    time.Duration
	child     childOptions
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	names := f.String("systems", strings.Join(systems, ","), "which systems")
	workloads := f.String("workloads", strings.Join(system.WorkloadNames(), ","), "which workloads")
	f.IntVar(&o.rounds, "rounds", requiredRounds, "how often all systems take their turn")
	f.StringVar(&o.format, "format", "table", `"table", or "bench" for benchstat`)
	f.StringVar(&o.out, "out", "", "append each result to this file, a line of JSON each")
	f.BoolVar(&o.fresh, "fresh", false, "a process and a cluster for each workload, not one for all of a round")
	f.BoolVar(&o.verify, "verify", true, "check first that all systems sync and read as they should")
	f.DurationVar(&o.settle, "settle", 20*time.Second, "how long to wait, at most, until others let the machine rest, before each process")
	f.DurationVar(&o.child.duration, "duration", 4*time.Second, "of each workload")
	f.DurationVar(&o.child.warmup, "warmup", time.Second, "before each workload")
	f.IntVar(&o.child.value, "value", 256, "bytes of a value")
	f.IntVar(&o.child.keys, "keys", 100_000, "keys, written beforehand")
	f.StringVar(&o.child.dir, "dir", "", "where data lies meanwhile (default a temporary directory)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.systems, o.workloads = strings.Split(*names, ","), strings.Split(*workloads, ",")
	if o.format != "table" && o.format != "bench" {
		return o, fmt.Errorf("no format %q", o.format)
	}
	_, err := system.FindWorkloads(o.workloads)
	return o, errors.Join(err, checkSystems(o.systems))
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	bin, err := build(ctx, o.systems)
	if err != nil {
		return err
	}
	defer bin.remove()
	verified := map[string]error{}
	for _, s := range o.systems {
		if !o.verify {
			verified[s] = errNotVerified
			continue
		}
		outcome, err := verify(ctx, bin, s, o.child)
		if errors.Is(err, errNoTracer) || ctx.Err() != nil {
			return err
		}
		verified[s] = err
		fmt.Fprintf(stderr, "verify %s: %s%s\n", s, outcome, orError(err))
	}
	results, failures := measure(ctx, o, bin, stderr)
	if o.format == "bench" {
		printBench(stdout, results)
	} else {
		printTables(stdout, newTable(results, o.rounds, verified))
	}
	return errors.Join(failures, ctx.Err())
}

// measure runs the rounds. A system that fails costs its results of the round,
// not the run.
func measure(ctx context.Context, o options, bin binaries, stderr io.Writer) (results []system.Result, failures error) {
	for round := range o.rounds {
		lists := [][]string{o.workloads}
		if o.fresh {
			lists = nil
			for _, w := range o.workloads {
				lists = append(lists, []string{w})
			}
		}
		for _, list := range lists {
			for _, s := range rotated(o.systems, round) {
				if ctx.Err() != nil {
					return results, failures
				}
				settle(ctx, o.settle)
				fmt.Fprintf(stderr, "round %d: %s %s\n", round+1, s, strings.Join(list, " "))
				rs, err := bin.measure(ctx, s, list, o.child)
				for i := range rs {
					rs[i].Round = round + 1
				}
				results = append(results, rs...)
				if err = errors.Join(err, save(o.out, rs)); err != nil {
					fmt.Fprintf(stderr, "round %d: %v\n", round+1, err)
					failures = errors.Join(failures, fmt.Errorf("round %d: %w", round+1, err))
				}
			}
		}
	}
	return results, failures
}

// rotated lets each round begin with another system: what disturbs the machine
// for a while does not always meet the same one.
func rotated(names []string, n int) []string {
	n %= len(names)
	return append(append([]string{}, names[n:]...), names[:n]...)
}

// settle waits until others leave the machine alone for a second, or limit has
// passed: what remains is shown as disturbance.
func settle(ctx context.Context, limit time.Duration) {
	for until := time.Now().Add(limit); time.Now().Before(until) && ctx.Err() == nil; {
		before := load.MachineCPU()
		time.Sleep(time.Second)
		if (load.MachineCPU() - before).Seconds() < disturbance {
			return
		}
	}
}

// save appends results to a file of JSON lines: what was measured stays if a later
// round fails.
func save(name string, results []system.Result) (err error) {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	e := json.NewEncoder(f)
	for _, r := range results {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func orError(err error) string {
	if err == nil {
		return ""
	}
	return "FAILED: " + err.Error()
}
