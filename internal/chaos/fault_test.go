//go:build linux

package chaos

import (
	"errors"
	"math/rand/v2"
	"time"
)

// fault is something that happens to a machine, or to all, for a time. end is
// called once, whether or not begin succeeded, and leaves the machine as it was,
// with its member running or to be started.
type fault interface {
	begin() error
	end() error
}

// kind is a kind of faults.
type kind struct {
	name string
	// possible tries it, and says why there can be none of these here.
	possible func(n *node) error
	// from and to bound how long one lasts.
	from, to time.Duration
	// explains are the ends of a member that it explains.
	explains []string
	// everybody: it happens to all members at once.
	everybody bool
	make      func(n *node, rng *rand.Rand) fault
}

const ms = time.Millisecond

// kinds are all that we know of. Pauses and cuts are shorter and longer than an
// election timeout; none is as long as writeDeadline.
var kinds = []kind{
	{name: "kill", from: 100 * ms, to: 1500 * ms, make: func(n *node, _ *rand.Rand) fault { return kill{n} }},
	{name: "kill all", from: 50 * ms, to: 500 * ms, everybody: true, make: func(n *node, _ *rand.Rand) fault { return killAllOf(n.l) }},
	{name: "pause, short", from: 50 * ms, to: 400 * ms, make: func(n *node, _ *rand.Rand) fault { return pause{n} }},
	{name: "pause, long", from: 800 * ms, to: 2500 * ms, make: func(n *node, _ *rand.Rand) fault { return pause{n} }},
	{name: "cut, one way", from: 300 * ms, to: 2500 * ms, possible: canFilter, make: oneWay},
	{name: "cut, both ways", from: 300 * ms, to: 2500 * ms, possible: canFilter, make: bothWays},
	{name: "cut, two members", from: 300 * ms, to: 2500 * ms, possible: canFilter, make: pair},
	{name: "cut, all the world", from: 300 * ms, to: 2500 * ms, possible: canFilter, make: world},
	{name: "loss", from: 1000 * ms, to: 3000 * ms, possible: canFilter, make: loss},
	{name: "reset", from: 20 * ms, to: 300 * ms, possible: canFilter, make: reset},
	{name: "delay", from: 800 * ms, to: 3000 * ms, possible: canDelay, make: someDelay},
	{name: "bandwidth", from: 1000 * ms, to: 3000 * ms, possible: canShape, make: bandwidth},
	{name: "slow disk", from: 1000 * ms, to: 3000 * ms, possible: canThrottle, make: slowDisk},
	{name: "slow fsync", from: 800 * ms, to: 2500 * ms, possible: canTrace, make: slowSync},
	{name: "failing fsync", from: 800 * ms, to: 2500 * ms, possible: canTrace, explains: []string{endIO}, make: failSync},
	{name: "full disk", from: 1500 * ms, to: 3500 * ms, explains: []string{endFull}, make: func(n *node, _ *rand.Rand) fault { return full{n} }},
	{name: "power", from: 50 * ms, to: 1000 * ms, make: func(n *node, _ *rand.Rand) fault { return power{[]*node{n}} }},
	{name: "power of all", from: 20 * ms, to: 300 * ms, everybody: true, make: func(n *node, _ *rand.Rand) fault { return power{n.l.nodes} }},
}

// several is faults at once.
type several []fault

func (s several) begin() error {
	var errs []error
	for _, f := range s {
		errs = append(errs, f.begin())
	}
	return errors.Join(errs...)
}

func (s several) end() error {
	var errs []error
	for _, f := range s {
		errs = append(errs, f.end())
	}
	return errors.Join(errs...)
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}

// try begins and ends a fault, to see whether this machine has what it takes.
func try(f fault) error { return errors.Join(f.begin(), f.end()) }
