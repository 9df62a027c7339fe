//go:build linux

package chaos

import (
	"fmt"
	"testing"
	"time"
)

// TestFaultsAct: each fault that makes things slow does, and each that breaks
// things breaks them. Else a run that finds nothing would show nothing.
func TestFaultsAct(t *testing.T) {
	if d := wanted(t); d < 5*time.Minute {
		t.Skip("a run of 5m or more looks at that")
	}
	l := newLab(t, 3, false)
	set := func(bytes int) time.Duration {
		began := time.Now()
		if _, err := l.nodes[0].kv.Set(t.Context(), "k", make([]byte, bytes)); err != nil {
			return time.Minute // longer than any time that is asked for
		}
		return time.Since(began)
	}
	everywhere := func(of func(*node) fault) several {
		var all several
		for _, n := range l.nodes {
			all = append(all, of(n))
		}
		return all
	}
	set(1) // opens the connections
	for _, c := range []struct {
		name     string
		possible func(*node) error
		of       func(*node) fault
		bytes    int
		atLeast  time.Duration
	}{
		{"delay", canDelay, func(n *node) fault { return &delayed{n: n, base: 60 * ms} }, 1, 120 * ms},
		{"delay of clients, too", canDelay, func(n *node) fault { return &delayed{n: n, base: 60 * ms, clients: true} }, 1, 180 * ms},
		{"bandwidth", canShape, func(n *node) fault { return shaped{n, 400} }, 50_000, 1000 * ms},
		{"slow disk", canThrottle, func(n *node) fault { return &throttled{n: n, iops: 5} }, 1, 150 * ms},
		{"slow fsync", canTrace, func(n *node) fault { return &traced{n: n, inject: "delay_enter=300000"} }, 1, 300 * ms},
		{"loss of all", canFilter, func(n *node) fault { return newFilter(n, "numgen random mod 100 < 99 drop", accept) }, 1, 2900 * ms},
		{"cut, both ways", canFilter, func(n *node) fault { return bothWays(n, nil) }, 1, 2900 * ms},
	} {
		if err := c.possible(l.nodes[0]); err != nil {
			fmt.Printf("chaos: SKIPPED: %s: %v\n", c.name, err)
			continue
		}
		before := time.Minute
		for end := time.Now().Add(10 * time.Second); before > c.atLeast && time.Now().Before(end); {
			before = set(c.bytes) // what was before may have to die down
		}
		f := everywhere(c.of)
		if err := f.begin(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var during time.Duration
		for range 3 { // the first may meet what was under way
			during = max(during, set(c.bytes))
		}
		if err := f.end(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		l.waitReady(t, 20*time.Second)
		t.Logf("%s: a Set of %d bytes took %v, then %v", c.name, c.bytes, before, during)
		if during < c.atLeast || before > c.atLeast {
			t.Errorf("%s: a Set took %v without and %v with it, want %v at least", c.name, before, during, c.atLeast)
		}
	}
	l.ends(t, "full disk", full{l.nodes[1]}, endFull)
	l.ends(t, "failing fsync", &traced{n: l.nodes[2], inject: "error=EIO:when=1+", broken: true}, endIO)
	for _, v := range l.violations() {
		t.Error(v)
	}
}

// ends wants the member to end by the fault, and say so.
func (l *lab) ends(t *testing.T, name string, f fault, class string) {
	var n *node
	switch f := f.(type) {
	case full:
		n = f.n
	case *traced:
		n = f.n
	}
	n.explain(class)
	defer n.unexplain()
	if err := f.begin(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	began := time.Now()
	err := eventually(10*time.Second, func() error {
		if n.running() == 0 {
			return nil
		}
		l.nodes[0].kv.Set(t.Context(), "k", make([]byte, 100_000)) // so that it writes
		return fmt.Errorf("%v goes on", n)
	})
	t.Logf("%s: %v after %v", name, n.lastWords(), time.Since(began))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if err := f.end(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	l.waitReady(t, 20*time.Second)
}
