package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is a bug to be planted: a piece of a production file, which is there once,
// and what stands there instead.
type mutant struct {
	name     string
	file     string // below the root of the module
	old, new string
	by       trial
}

// trial is the test that must find a bug, and how it says so.
type trial struct {
	pkg     string // below the root; "": internal/sim
	run     string // pattern of tests; "": TestSim
	profile string // of harm, in the simulation; "": the seed picks
	seed    uint64 // one that has caught the bug, with -hints the first to be run
	why     string // pattern of the line with which the test fails
}

func (t trial) sim() bool { return t.pkg == "" }

func (t trial) String() string {
	switch {
	case !t.sim():
		return fmt.Sprintf("%s in %s", t.run, t.pkg)
	case t.profile != "":
		return fmt.Sprintf("the simulation, profile %q", t.profile)
	}
	return "the simulation"
}

// patched returns the mutant's file.
func (m *mutant) patched(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(b), m.old); n != 1 || m.old == m.new {
		return "", fmt.Errorf("the code has moved: mend the table: in %s there are %d of\n%s", m.file, n, m.old)
	}
	return strings.Replace(string(b), m.old, m.new, 1), nil
}
