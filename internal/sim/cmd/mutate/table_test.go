package main

import (
	"regexp"
	"testing"
)

// TestTable: each mutant can be planted in the code as it is now.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if _, err := m.patched("../../../.."); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] {
			t.Errorf("there are two of %q", m.name)
		}
		names[m.name] = true
		if _, err := regexp.Compile(m.by.why); err != nil || m.by.why == "" {
			t.Errorf("%s: no pattern of what the test must say: %v", m.name, err)
		}
		if !m.by.sim() && m.by.run == "" {
			t.Errorf("%s: no test of %s", m.name, m.by.pkg)
		}
	}
}
