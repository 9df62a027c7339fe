package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// patience bounds each wait: a cluster that takes longer is broken.
const patience = 30 * time.Second

type cluster struct {
	o       *options
	members []*process
}

func measure(o *options) (err error) {
	if o.dir, err = os.MkdirTemp(o.dir, "failover-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	c := &cluster{o: o}
	defer c.kill()
	if err := c.start(); err != nil {
		return err
	}
	if o.kills > 0 {
		if err := c.rounds("kill", o.kills, c.killLeader); err != nil {
			return err
		}
	}
	if o.shutdowns > 0 {
		if err := c.rounds("shutdown", o.shutdowns, c.shutLeader); err != nil {
			return err
		}
	}
	return c.verify()
}

func (c *cluster) start() error {
	var table []string
	for i := range 3 {
		addr, err := freePort()
		if err != nil {
			return err
		}
		p := &process{o: c.o, id: fmt.Sprint("m", i), addr: addr, acked: map[string]uint64{}}
		c.members = append(c.members, p)
		table = append(table, p.id+"="+addr)
	}
	for _, p := range c.members {
		p.table = strings.Join(table, ",")
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

// kill ends what is left of the processes.
func (c *cluster) kill() {
	for _, p := range c.members {
		if p.cmd != nil && p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.ended()
		}
	}
}

// settled waits until all members are ready, follow one leader and have applied
// nearly the same, and returns the leader and the others. Under load nobody is
// ever even.
func (c *cluster) settled() (lead *process, others []*process, err error) {
	end := time.Now().Add(patience)
	for _, p := range c.members {
		select {
		case <-p.ready:
		case <-p.drained:
			return nil, nil, fmt.Errorf("member %s ended", p.id)
		case <-time.After(time.Until(end)):
			return nil, nil, fmt.Errorf("member %s is not ready", p.id)
		}
	}
	for time.Now().Before(end) {
		lead, others = nil, nil
		agreed, low, high := true, ^uint64(0), uint64(0)
		name := ""
		for _, p := range c.members {
			role, leader, applied, err := p.status()
			if err != nil {
				return nil, nil, err
			}
			if role == "leader" {
				lead = p
			} else {
				others = append(others, p)
			}
			agreed = agreed && leader != "-" && (name == "" || name == leader)
			name, low, high = leader, min(low, applied), max(high, applied)
		}
		if lead != nil && len(others) == 2 && agreed && high-low < 1000 {
			time.Sleep(c.o.settle)
			return lead, others, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, nil, errors.New("the members do not settle")
}

// rounds ends the leader n times and prints what that cost.
func (c *cluster) rounds(what string, n int, end func(lead *process, others []*process) (outage, error)) error {
	var all []outage
	for range n {
		lead, others, err := c.settled()
		if err != nil {
			return err
		}
		o, err := end(lead, others)
		if err != nil {
			return err
		}
		if c.o.logs {
			fmt.Printf("%s of %s: resumed %v, gaps %v at %v, before %v, took %v, failed %v\n", what, lead.id, o.resumed, o.gaps, o.began, o.before, o.took, o.failed)
		}
		all = append(all, o)
		if err := lead.start(); err != nil {
			return err
		}
	}
	c.report(what, all)
	return nil
}

// outage is what the end of a leader cost the callers on the other members.
type outage struct {
	resumed []time.Duration // of each: from the end to the first acknowledgement of a call that began after it
	gaps    []time.Duration // of each: the longest time without an acknowledgement
	began   []time.Duration // when that began, after the end
	before  []time.Duration // the longest in the second before, for comparison
	took    time.Duration   // Shutdown
	failed  map[string]int  // errors of their calls
}

func (c *cluster) killLeader(lead *process, others []*process) (outage, error) {
	at := time.Now()
	if err := lead.cmd.Process.Kill(); err != nil {
		return outage{}, err
	}
	lead.ended()
	return c.outage(others, at, at)
}

func (c *cluster) shutLeader(lead *process, others []*process) (outage, error) {
	at := time.Now()
	answer, err := lead.ask("shutdown")
	if err != nil {
		return outage{}, err
	}
	gone := time.Now()
	if answer != "<nil>" {
		fmt.Println("shutdown of", lead.id, "answered", answer)
	}
	lead.ended()
	o, err := c.outage(others, at, gone.Add(500*time.Millisecond))
	o.took = gone.Sub(at)
	return o, err
}

// outage waits until each of the others was acknowledged a call that began after at, and
// not before until is past.
func (c *cluster) outage(others []*process, at, until time.Time) (outage, error) {
	o := outage{failed: map[string]int{}}
	for _, p := range others {
		first := time.Time{}
		for end := at.Add(patience); first.IsZero() || time.Now().Before(until); {
			if time.Now().After(end) {
				return o, fmt.Errorf("no write through %s within %v", p.id, patience)
			}
			time.Sleep(20 * time.Millisecond)
			first = time.Time{}
			for _, a := range p.since(at) {
				if a.err == "" && a.began.After(at) && (first.IsZero() || a.ended.Before(first)) {
					first = a.ended
				}
			}
		}
		o.resumed = append(o.resumed, first.Sub(at))
		later := until
		if later.Before(first) {
			later = first
		}
		gap, began := longestGap(p, at, later)
		o.gaps, o.began = append(o.gaps, gap), append(o.began, began)
		gap, _ = longestGap(p, at.Add(-time.Second), at)
		o.before = append(o.before, gap)
		for _, a := range p.since(at) {
			if a.err != "" {
				o.failed[a.err]++
			}
		}
	}
	return o, nil
}

// longestGap is the longest time between from and to without an acknowledgement,
// and when it began.
func longestGap(p *process, from, to time.Time) (gap, at time.Duration) {
	ends := []time.Time{from, to}
	for _, a := range p.since(from) {
		if a.err == "" && a.ended.Before(to) {
			ends = append(ends, a.ended)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	for i := 1; i < len(ends); i++ {
		if g := ends[i].Sub(ends[i-1]); g > gap {
			gap, at = g, ends[i-1].Sub(from)
		}
	}
	return gap, at
}

func (c *cluster) report(what string, all []outage) {
	var resumed, gaps, before, took []time.Duration
	failed := map[string]int{}
	for _, o := range all {
		resumed, gaps, before, took = append(resumed, o.resumed...), append(gaps, o.gaps...), append(before, o.before...), append(took, o.took)
		for e, n := range o.failed {
			failed[e] += n
		}
	}
	if what == "kill" {
		e := c.o.election.Seconds()
		spread := quantiles(resumed)
		fmt.Printf("%-9s %d rounds: writes through the others resume after %v; in election timeouts %.2f, %.2f, %.2f, %.2f (bar: median 2, max 4)\n",
			what, len(all), spread, spread[0].Seconds()/e, spread[1].Seconds()/e, spread[2].Seconds()/e, spread[3].Seconds()/e)
	} else {
		fmt.Printf("%-9s %d rounds: longest gap of the others' writes %v (bar: max 200ms); Shutdown takes %v\n", what, len(all), quantiles(gaps), quantiles(took))
	}
	fmt.Printf("%-9s longest gap in the second before %v; all: least, median, p90, max\n", what, quantiles(before))
	total := 0
	for e, n := range failed {
		fmt.Printf("%-9s %d calls through the others failed: %s\n", what, n, e)
		total += n
	}
	fmt.Printf("%-9s %d calls through the others failed\n", what, total)
}

// spread is least, median, p90 and max.
type spread [4]time.Duration

func quantiles(d []time.Duration) (s spread) {
	slices.Sort(d)
	for i, q := range []float64{0, 0.5, 0.9, 1} {
		s[i] = d[int(q*float64(len(d)-1))].Round(100 * time.Microsecond)
	}
	return s
}

// verify stops the load and compares: members with each other, and with what was
// acknowledged.
func (c *cluster) verify() error {
	if _, _, err := c.settled(); err != nil {
		return err
	}
	for _, p := range c.members {
		if _, err := p.ask("stop"); err != nil {
			return err
		}
	}
	hashes, lost, acknowledged := map[string]int{}, 0, 0
	for _, p := range c.members {
		p.items = map[string]uint64{}
		hash, err := p.ask("dump")
		if err != nil {
			return err
		}
		hashes[hash]++
		for _, writer := range c.members {
			for k, number := range writer.acked {
				if acknowledged++; p.items[k] < number {
					lost++
					fmt.Printf("verify    %s has %s at %d, acknowledged was %d\n", p.id, k, p.items[k], number)
				}
			}
		}
	}
	calls := 0
	for _, p := range c.members {
		calls += len(p.calls)
	}
	fmt.Printf("verify    %d calls; %d newest acknowledged values looked up, %d lost; members' states: %v\n",
		calls, acknowledged, lost, slices.Collect(maps.Values(hashes)))
	if lost > 0 || len(hashes) != 1 {
		return errors.New("acknowledged writes were lost, or the members differ")
	}
	return nil
}
