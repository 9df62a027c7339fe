// Command soak runs fresh seeds of the simulation for a while, each in a process of
// its own, so that memory is bounded and a hang is one seed's.
//
//	go run ./internal/sim/cmd/soak -for 2h -procs 2
//
// It runs at the root of the module, keeps what failing seeds printed in a directory,
// and ends with status 1 if any seed failed, or if something that should sometimes
// happen never did.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/replkv/replkv/internal/sim"
)

var (
	length  = flag.Duration("for", 10*time.Minute, "how long to run")
	procs   = flag.Int("procs", 2, "seeds at a time")
	out     = flag.String("out", "", "directory for the output of failing seeds (default: a temporary one)")
	each    = flag.Duration("length", sim.DefaultLength, "virtual length of a seed")
	profile = flag.String("profile", "", "profile of harm (default: the seed picks)")
	limit   = flag.Int("mem", 1500, "soft limit of a seed's memory in MiB")
	patient = flag.Duration("timeout", 5*time.Minute, "a seed that takes longer has failed")
	overlay = flag.String("overlay", "", "overlay file for the build")
)

func main() {
	flag.Parse()
	ok, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// soak is what all processes share.
type soak struct {
	dir, binary string
	began       time.Time

	mu     sync.Mutex // protects the fields below
	sum    sim.Coverage
	seeds  int
	failed []uint64
}

func run() (ok bool, err error) {
	s := &soak{dir: *out, began: time.Now(), sum: sim.Coverage{}}
	if s.dir == "" {
		s.dir, err = os.MkdirTemp("", "replkv-soak-")
	} else {
		err = os.MkdirAll(s.dir, 0o755)
	}
	if err != nil {
		return false, err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return false, err
	}
	s.binary = filepath.Join(s.dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-overlay="+*overlay, "-o", s.binary, "./internal/sim")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return false, fmt.Errorf("build: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	fmt.Printf("output of failing seeds: %s\n", s.dir)
	var wg sync.WaitGroup
	for range *procs {
		wg.Go(func() {
			for ctx.Err() == nil {
				s.seed(rand.Uint64N(1 << 48))
			}
		})
	}
	wg.Go(func() { s.tell(ctx) })
	wg.Wait()
	return s.end(), nil
}

// seed runs one to its end, also if time is up meanwhile.
func (s *soak) seed(seed uint64) {
	counts := filepath.Join(s.dir, fmt.Sprintf("%d.json", seed))
	defer os.Remove(counts)
	cmd := exec.Command(s.binary, "-test.run=^TestSim$", "-test.v", fmt.Sprintf("-test.timeout=%v", *patient))
	cmd.Env = append(os.Environ(), fmt.Sprintf("REPLKV_SIM_SEED=%d", seed), fmt.Sprintf("REPLKV_SIM_LENGTH=%v", *each),
		"REPLKV_SIM_PROFILE="+*profile, "REPLKV_SIM_OUT="+s.dir, "REPLKV_SIM_COVERAGE="+counts,
		fmt.Sprintf("GOMEMLIMIT=%dMiB", *limit), "GOMAXPROCS=1", "GOGC=400")
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	err := cmd.Run()
	coverage := sim.Coverage{}
	if b, readErr := os.ReadFile(counts); readErr == nil {
		err = errors.Join(err, json.Unmarshal(b, &coverage))
	} else if err == nil {
		err = readErr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	s.sum.Add(coverage)
	if err == nil {
		return
	}
	s.failed = append(s.failed, seed)
	name := filepath.Join(s.dir, fmt.Sprintf("%d.log", seed))
	fmt.Printf("seed %d FAILED (%v): %s\n%s", seed, err, name, firstLines(printed.String()))
	if err := os.WriteFile(name, printed.Bytes(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
}

// firstLines are those that say what failed.
func firstLines(s string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(s) {
		if n < 10 && (strings.Contains(line, "FAILED") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")) {
			b.WriteString("    " + strings.TrimSpace(line) + "\n")
			n++
		}
	}
	return b.String()
}

// tell prints the running sum now and then.
func (s *soak) tell(ctx context.Context) {
	tick := time.NewTicker(max(10*time.Second, *length/100))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Println(s.line())
		case <-ctx.Done():
			return
		}
	}
}

func (s *soak) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.sum
	return fmt.Sprintf("%v: %d seeds, %d failed: %.2f cluster-hours; histories %d (%d operations, %d of unknown outcome), elections %d, crashes %d, snapshots %d taken and %d installed",
		time.Since(s.began).Round(time.Second), s.seeds, len(s.failed), float64(c["cluster seconds"])/3600, c["histories"], c["operations"],
		c["operations of unknown outcome"], c["elections"], c["crash"]+c["crash all"]+c["crash at an operation"], c["snapshots taken"], c["snapshots installed"])
}

func (s *soak) end() (ok bool) {
	fmt.Println(s.line())
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Println(s.sum)
	ok = len(s.failed) == 0
	for _, seed := range s.failed {
		fmt.Printf("failed: seed %d; again: REPLKV_SIM_SEED=%d REPLKV_SIM_LENGTH=%v REPLKV_SIM_PROFILE=%q go test -run '^TestSim$' ./internal/sim\n", seed, seed, *each, *profile)
	}
	if missing := s.sum.Missing(s.seeds); *profile == "" && len(missing) > 0 {
		fmt.Printf("in %d seeds there was none of: %s\n", s.seeds, strings.Join(missing, ", "))
		ok = false
	}
	if ok {
		_ = os.Remove(s.binary)
	}
	return ok
}
