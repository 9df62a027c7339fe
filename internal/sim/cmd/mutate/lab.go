package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// lab builds tests with and without bugs, and runs them, one process at a time.
type lab struct {
	root, dir string
	built     map[string]string // packages without a mutation: their test binaries
	passed    map[string]bool   // what was run without a mutation
	cpu       time.Duration     // of all processes
}

// errBudget: the CPU time is used up.
var errBudget = errors.New("no CPU time is left")

// verdict is what became of a mutant.
type verdict struct {
	caught bool
	after  int    // runs, with the one that caught it
	how    string // the line that says why, or why it was not caught
	by     string
}

func (v verdict) String() string {
	switch {
	case v.caught:
		return fmt.Sprintf("caught by %s, run %d: %s", v.by, v.after, v.how)
	case v.after == 0:
		return "NOT RUN: " + v.how
	}
	return fmt.Sprintf("NOT CAUGHT in %d runs: %s", v.after, v.how)
}

// attempt is one run of a test.
type attempt struct {
	pkg, run string
	env      []string
	name     string
}

// attempts are the runs that a trial is worth: seeds of the simulation; a test a few
// times, since it may be a random one.
func (t trial) attempts() (out []attempt) {
	if !t.sim() {
		const times = 3
		for range times {
			out = append(out, attempt{pkg: t.pkg, run: t.run, name: t.String()})
		}
		return out
	}
	var seeds []uint64
	if *hints {
		seeds = append(seeds, t.seed, t.seed, t.seed) // a seed fails again often, not always
	}
	for n := range *bound {
		seeds = append(seeds, uint64(n))
	}
	for _, n := range seeds {
		out = append(out, attempt{pkg: "internal/sim", run: "^TestSim$", name: fmt.Sprintf("%v, seed %d", t, n),
			env: []string{fmt.Sprintf("REPLKV_SIM_SEED=%d", n), "REPLKV_SIM_PROFILE=" + t.profile}})
	}
	return out
}

// try plants m and runs its trial until it fails as it should.
func (l *lab) try(m *mutant) (v verdict, err error) {
	why, err := regexp.Compile(m.by.why)
	if err != nil {
		return v, err
	}
	text, err := m.patched(l.root)
	if err != nil {
		return v, err
	}
	attempts := m.by.attempts()
	v.how = "all passed"
	if l.spent() {
		v.how = errBudget.Error()
		return v, errBudget
	}
	binary, err := l.build(attempts[0].pkg, m.file, text)
	if err != nil {
		return v, err
	}
	defer os.Remove(binary)
	for _, a := range attempts {
		if l.spent() {
			v.how = errBudget.Error()
			return v, errBudget
		}
		v.after++
		r, err := l.run(binary, a)
		if err != nil {
			return v, err
		}
		if r.passed {
			continue
		}
		if err := keepOutput(m.name, r.printed); err != nil {
			return v, err
		}
		line, found := r.says(m.by, why)
		if !found {
			v.how = "failed otherwise: " + line
			continue
		}
		if *clean {
			if failed, err := l.control(a); err != nil {
				return v, err
			} else if failed != "" { // so it proves nothing
				v.how = "fails without the mutation, too: " + failed
				continue
			}
		}
		v.by, v.how, v.caught = a.name, line, true
		return v, nil
	}
	return v, nil
}

func (l *lab) spent() bool { return *budget > 0 && l.cpu > *budget }

// control runs without a mutation what caught one, and says what failed; "" if nothing
// did.
func (l *lab) control(a attempt) (failed string, err error) {
	if l.passed[a.name] {
		return "", nil
	}
	binary := l.built[a.pkg]
	if binary == "" {
		if binary, err = l.build(a.pkg, "", ""); err != nil {
			return "", err
		}
		l.built[a.pkg] = binary
	}
	r, err := l.run(binary, a)
	if err != nil {
		return "", err
	}
	if !r.passed {
		return firstFailures(r.printed), nil
	}
	l.passed[a.name] = true
	return "", nil
}

// build makes the test binary of a package, with a file replaced if there is one.
func (l *lab) build(pkg, file, text string) (binary string, err error) {
	binary = filepath.Join(l.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	args := []string{"test", "-c", "-ldflags=-w", "-o", binary}
	if file != "" {
		binary = filepath.Join(l.dir, "mutant.test")
		overlay, patched := filepath.Join(l.dir, "overlay.json"), filepath.Join(l.dir, "patched.go")
		replace := map[string]map[string]string{"Replace": {filepath.Join(l.root, file): patched}}
		b, err := json.Marshal(replace)
		if err == nil {
			err = errors.Join(os.WriteFile(overlay, b, 0o644), os.WriteFile(patched, []byte(text), 0o644))
		}
		if err != nil {
			return "", err
		}
		args = []string{"test", "-c", "-ldflags=-w", "-overlay", overlay, "-o", binary}
	}
	cmd := exec.Command("go", append(args, "./"+pkg)...)
	cmd.Dir = l.root
	printed, err := cmd.CombinedOutput()
	l.count(cmd)
	if err != nil {
		return "", fmt.Errorf("it does not compile: %w\n%s", err, printed)
	}
	return binary, nil
}

// result is how a run ended.
type result struct {
	passed  bool
	hung    bool
	printed string
}

// run runs a test in a process of its own, in the directory of its package.
func (l *lab) run(binary string, a attempt) (r result, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run="+a.run, "-test.v", "-test.timeout="+limit.String())
	cmd.Dir = filepath.Join(l.root, a.pkg)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400", "GOMEMLIMIT=1500MiB", "REPLKV_SIM_OUT="+l.dir)
	cmd.Env = append(cmd.Env, a.env...)
	printed, err := cmd.CombinedOutput()
	l.count(cmd)
	_, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		return r, err
	}
	r = result{passed: err == nil, hung: ctx.Err() != nil, printed: string(printed)}
	if r.passed && !strings.Contains(r.printed, "--- PASS") {
		return r, fmt.Errorf("no test of %s matches %s", a.pkg, a.run)
	}
	return r, nil
}

func (l *lab) count(cmd *exec.Cmd) {
	if s := cmd.ProcessState; s != nil {
		l.cpu += s.UserTime() + s.SystemTime()
	}
}

// says returns the line with which a test failed as it should; else, not found, what
// it said instead.
func (r *result) says(t trial, why *regexp.Regexp) (line string, found bool) {
	var lines []string
	for s := range strings.Lines(r.printed) {
		s = strings.TrimSpace(s)
		switch {
		case strings.HasPrefix(s, "panic: "), strings.HasPrefix(s, "fatal error: "):
			return short(s), false // a hang, or a crash: not what a checker says
		case t.sim() && !strings.HasPrefix(s, "FAILED: "), s == "", strings.HasPrefix(s, "=== "), strings.HasPrefix(s, "--- "):
		default:
			lines = append(lines, s)
		}
	}
	if r.hung || !strings.Contains(r.printed, "--- FAIL") {
		return "it did not end", false
	}
	for _, s := range lines {
		if why.MatchString(s) {
			return short(s), true
		}
	}
	return firstFailures(r.printed), false
}

// firstFailures is a short word of what failed.
func firstFailures(printed string) string {
	var out []string
	for s := range strings.Lines(printed) {
		if s = strings.TrimSpace(s); strings.Contains(s, "FAIL") && len(out) < 3 || strings.HasPrefix(s, "panic: ") {
			out = append(out, short(s))
		}
	}
	return strings.Join(out, "; ")
}

func short(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
