// Command fuzz runs each fuzz target of the module for a while:
//
//	go run ./internal/sim/cmd/fuzz -each 5s
//	go run ./internal/sim/cmd/fuzz -each 1m -most 0 -keep 8 # then they are tests
//
// Targets are found, not listed: every func Fuzz... in a _test.go file. A target that
// fails leaves its input in testdata/fuzz of its package, as go test does, and makes the
// exit status 1.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	var f fuzzer
	flag.DurationVar(&f.each, "each", 5*time.Second, "how long to fuzz each target")
	flag.DurationVar(&f.most, "most", 2*time.Minute, "how long at most for all, without compiling: each gets less then; 0: no bound")
	flag.StringVar(&f.only, "run", "", "only targets whose directory/name matches this regular expression")
	flag.IntVar(&f.keep, "keep", 0, "inputs that new code was reached with to keep in testdata/fuzz, if fewer are there")
	flag.IntVar(&f.atOnce, "procs", runtime.GOMAXPROCS(0), "targets at a time, each with one worker")
	flag.Parse()
	if err := f.run(); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

type fuzzer struct {
	each, most time.Duration
	only       string
	atOnce     int
	keep       int
	work       string // a directory for test binaries and inputs of interest
}

// target is a function in a package's directory.
type target struct{ dir, name string }

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// targets looks below root, but not into modules of their own.
func targets(root string) (found []target, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root:
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || d.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range declaration.FindAllSubmatch(b, -1) {
			found = append(found, target{filepath.Dir(path), string(m[1])})
		}
		return err
	})
	return found, err
}

func (f *fuzzer) run() error {
	want, err := regexp.Compile(f.only)
	if err != nil {
		return err
	}
	all, err := targets(".")
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(all, func(t target) bool { return !want.MatchString(t.dir + "/" + t.name) })
	if len(chosen) == 0 {
		return errors.New("there is no such target")
	}
	if rounds := (len(chosen) + f.atOnce - 1) / f.atOnce; f.most > 0 {
		f.each = min(f.each, f.most/time.Duration(rounds))
	}
	if f.work, err = os.MkdirTemp("", "replkv-fuzz-"); err != nil {
		return err
	}
	defer os.RemoveAll(f.work)
	compiled, err := f.compileAll(chosen)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var failed atomic.Int32
	turn := make(chan struct{}, f.atOnce)
	for i, t := range chosen {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			inputs, out, err := f.fuzz(compiled[i], t)
			result := "ok"
			if err != nil {
				failed.Add(1)
				result = fmt.Sprintf("FAILED: %v\n%s", err, out)
			} else if err := f.keepInputs(t); err != nil {
				failed.Add(1)
				result = fmt.Sprintf("FAILED to keep inputs: %v", err)
			}
			fmt.Printf("%-20s %-18s %10s inputs  %s\n", t.dir, t.name, inputs, result)
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d targets failed", n, len(chosen))
	}
	return nil
}

// compileAll returns the test binary of each target.
func (f *fuzzer) compileAll(targets []target) (binaries []string, err error) {
	of := map[string]string{} // by directory
	for _, t := range targets {
		if of[t.dir] == "" {
			if of[t.dir], err = f.compile(t.dir, len(of)); err != nil {
				return nil, err
			}
		}
		binaries = append(binaries, of[t.dir])
	}
	return binaries, nil
}

// compile makes the test binary of a package, with the counters that the fuzzer reads.
func (f *fuzzer) compile(dir string, i int) (binary string, err error) {
	binary = filepath.Join(f.work, fmt.Sprintf("%d.test", i))
	out, err := exec.Command("go", "test", "-c", "-fuzz", ".", "-o", binary, "./"+filepath.ToSlash(dir)).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", dir, err, out)
	}
	return binary, nil
}

var progress = regexp.MustCompile(`execs: (\d+)`)

// overtime is all that a target says which found nothing: Go's coordinator takes the end
// of -test.fuzztime for a failure now and then (go.dev/issue/75804).
var overtime = regexp.MustCompile(`(?s)^(fuzz: [^\n]*\n)*--- FAIL: \w+ \([0-9.]+s\)\n\s*context deadline exceeded\nFAIL\n$`)

// fuzz runs a target, and says how many inputs it was given.
func (f *fuzzer) fuzz(binary string, t target) (inputs string, out []byte, err error) {
	// Each input that is new is made smaller first, by default for a minute: a slow target
	// would do nothing else.
	cmd := exec.Command(binary, "-test.run", "^$", "-test.fuzz", "^"+t.name+"$", "-test.fuzztime", f.each.String(), "-test.fuzzminimizetime", "50x",
		"-test.parallel", "1", "-test.fuzzcachedir", f.inputs(t), "-test.timeout", (f.each + 5*time.Minute).String())
	cmd.Dir = t.dir
	out, err = cmd.CombinedOutput()
	if overtime.Match(out) {
		err = nil
	}
	if m := progress.FindAllSubmatch(out, -1); len(m) > 0 {
		inputs = string(m[len(m)-1][1])
	}
	return inputs, out, err
}

// inputs is where a target's inputs are that new code was reached with.
func (f *fuzzer) inputs(t target) string {
	return filepath.Join(f.work, "inputs", strings.ReplaceAll(t.dir, string(filepath.Separator), "-"))
}

// maxKept is the size of an input beyond which it is not kept, in bytes.
const maxKept = 4 << 10

// keepInputs copies some of what was found, evenly over the time of the search: the
// later ones are deep in the code, the first ones simple.
func (f *fuzzer) keepInputs(t target) error {
	to := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	there, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	want := f.keep - len(there)
	if want <= 0 {
		return nil
	}
	found, err := found(filepath.Join(f.inputs(t), t.name))
	if err != nil || len(found) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for i := range min(want, len(found)) {
		name := found[i*len(found)/min(want, len(found))]
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(name)), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// found lists the small files of a directory, oldest first; none if it is not there.
func found(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	at := map[string]time.Time{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if name := filepath.Join(dir, e.Name()); info.Size() <= maxKept {
			names = append(names, name)
			at[name] = info.ModTime()
		}
	}
	slices.SortFunc(names, func(a, b string) int { return at[a].Compare(at[b]) })
	return names, err
}
