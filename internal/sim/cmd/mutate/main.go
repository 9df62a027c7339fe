// Command mutate plants bugs in the production code, one at a time, and runs the
// tests that must find each: a test that nothing can fail proves nothing.
//
//	go run ./internal/sim/cmd/mutate                # all of the table
//	go run ./internal/sim/cmd/mutate -run 'watch'   # those whose names match
//
// It runs at the root of the module and changes nothing there: the patched file lies
// in a temporary directory, and go build -overlay puts it in place. A bug counts as
// caught if a test fails with the message that the table expects, and the same test
// passes without the bug; who does not compile, hangs or fails for another reason is
// not. Status 1: something was not caught, or the table does not fit the code.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

var (
	names  = flag.String("run", "", "pattern of the names of mutants to run (default: all)")
	bound  = flag.Int("seeds", 60, "seeds of the simulation, 0 and up, before a mutant counts as not caught")
	hints  = flag.Bool("hints", false, "begin with the seed that is known to have caught it")
	clean  = flag.Bool("clean", true, "run what failed again without the mutation: it must pass")
	limit  = flag.Duration("timeout", 4*time.Minute, "for one process")
	budget = flag.Duration("cpu", 0, "stop when so much CPU time is used; what is left is not decided (0: no limit)")
	list   = flag.Bool("list", false, "list the table and end")
	out    = flag.String("out", "", "append a line for each mutant to this file")
	keep   = flag.String("keep", "", "keep what failing tests printed in this directory")
)

func main() {
	flag.Parse()
	ok, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run() (ok bool, err error) {
	pattern, err := regexp.Compile(*names)
	if err != nil {
		return false, err
	}
	var chosen []mutant
	for _, m := range mutants {
		if pattern.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if *list {
		for _, m := range chosen {
			fmt.Printf("%s (%s): by %v\n", m.name, m.file, m.by)
		}
		return true, nil
	}
	root, err := os.Getwd()
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "replkv-mutate-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	l := &lab{root: root, dir: dir, built: map[string]string{}, passed: map[string]bool{}}
	return l.all(chosen)
}

// all runs mutants, and says whether each was caught, as far as it was decided.
func (l *lab) all(chosen []mutant) (ok bool, err error) {
	ok = true
	caught, undecided := 0, 0
	for _, m := range chosen {
		v, err := l.try(&m)
		switch {
		case errors.Is(err, errBudget):
			undecided++
		case err != nil:
			return false, fmt.Errorf("%s: %w", m.name, err)
		case v.caught:
			caught++
		default:
			ok = false
		}
		line := fmt.Sprintf("%s: %v (CPU so far: %v)", m.name, v, l.cpu.Round(time.Second))
		fmt.Println(line)
		if *out != "" {
			if err := appendLine(*out, line); err != nil {
				return false, err
			}
		}
	}
	fmt.Printf("%d of %d mutants caught, %d not, %d not decided; CPU time %v\n", caught, len(chosen), len(chosen)-caught-undecided, undecided, l.cpu.Round(time.Second))
	return ok, nil
}

func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// keepOutput keeps what a failing test printed.
func keepOutput(name, printed string) error {
	if *keep == "" {
		return nil
	}
	if err := os.MkdirAll(*keep, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*keep, strings.ReplaceAll(name, " ", "-")+".log"), []byte(printed), 0o644)
}
