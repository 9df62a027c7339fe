// Command replay runs a seed of the simulation several times, each in a process of its
// own, on a runtime whose bubbles repeat (package overlay), and compares what happened:
//
//	go run ./internal/sim/cmd/replay -seed 16
//
// It ends with status 1 if that differs, or if the seed fails, in which case the seed
// fails each time in the same way. Where the overlay does not fit the installed Go, it
// says so and runs each seed once, without: that is a test of the seed, not of its replay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/replkv/replkv/internal/sim/overlay"
)

func main() {
	var r replay
	flag.StringVar(&r.seeds, "seed", "0", "seeds to run, separated by commas")
	flag.DurationVar(&r.length, "length", 30*time.Second, "virtual length of each run")
	flag.IntVar(&r.times, "times", 2, "how often to run each")
	flag.StringVar(&r.schedule, "schedule", "", "any word: another order of goroutines for each")
	flag.StringVar(&r.profile, "profile", "", "profile of harm")
	flag.StringVar(&r.out, "out", "", "directory for the reports of all runs; none are kept without")
	flag.Parse()
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

type replay struct {
	seeds, schedule, profile, out string
	length                        time.Duration
	times                         int
	binary                        string
}

func (r *replay) run() error {
	dir, err := os.MkdirTemp("", "replkv-replay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if r.out == "" {
		r.out = dir
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if err := r.build(dir); err != nil {
		return err
	}
	var errs []error
	for seed := range strings.SplitSeq(r.seeds, ",") {
		errs = append(errs, r.compare(seed))
	}
	return errors.Join(errs...)
}

// build makes the test binary.
func (r *replay) build(dir string) error {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	patched, err := r.patch(strings.TrimSpace(string(goroot)), dir)
	if err != nil {
		return err
	}
	r.binary = filepath.Join(dir, "sim.test")
	args := append([]string{"test", "-c", "-o", r.binary}, patched...)
	cmd := exec.Command("go", append(args, "github.com/replkv/replkv/internal/sim")...)
	cmd.Env = append(os.Environ(), overlay.BuildEnv...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// patch returns what has the runtime patched by the build; where the patches do not fit,
// nothing, and each seed is run once.
func (r *replay) patch(goroot, dir string) (args []string, err error) {
	name, err := overlay.Write(goroot, dir)
	if errors.Is(err, overlay.ErrVersion) {
		fmt.Println("replay: NOT REPEATED, each seed is run once on the runtime as it is:", err)
		r.times = 1
		return nil, nil
	}
	return []string{"-overlay", name}, err
}

func (r *replay) compare(seed string) error {
	first := ""
	for i := range r.times {
		trace, err := r.once(seed, i)
		if err != nil {
			return fmt.Errorf("seed %s, run %d: %w", seed, i+1, err)
		}
		fmt.Printf("%d: %s\n", i+1, trace)
		switch {
		case first == "":
			first = trace
		case trace != first:
			return fmt.Errorf("seed %s: run %d differs from the first", seed, i+1)
		}
	}
	return nil
}

var traceLine = regexp.MustCompile(`TRACE .*`)

// once runs a seed, and returns the line that says what it did.
func (r *replay) once(seed string, i int) (string, error) {
	out := filepath.Join(r.out, fmt.Sprintf("run%d", i+1))
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary)
	// Nothing that differs between two machines, nor the length of a path: what a process
	// keeps of it would move all that it allocates later.
	cmd.Dir, cmd.Args = out, []string{"sim.test", "-test.run", "^TestSim$", "-test.v"}
	cmd.Env = append([]string{"TZ=UTC", "REPLKV_SIM_TRACE=1", "REPLKV_SIM_OUT=.", "REPLKV_SIM_KEEP=1", "REPLKV_SIM_SEED=" + seed,
		"REPLKV_SIM_LENGTH=" + r.length.String(), "REPLKV_SIM_PROFILE=" + r.profile, "REPLKV_SIM_SCHEDULE=" + r.schedule}, overlay.Env...)
	b, err := cmd.CombinedOutput()
	trace := string(traceLine.Find(b))
	if err == nil && trace == "" {
		err = errors.New("it says nothing of what it did")
	}
	if err != nil {
		return trace, fmt.Errorf("%w\n%s", err, b)
	}
	return trace, nil
}

// patience is for a run, which takes seconds; where nobody can be interrupted, it may
// hang for ever.
const patience = 5 * time.Minute
