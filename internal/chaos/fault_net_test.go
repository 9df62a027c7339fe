//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// filter is rules of nftables in a member's network. Each has a table of its own,
// so that several do not disturb each other.
type filter struct {
	n       *node
	table   string
	in, out string // rules for what comes and what goes; NET.i is member i's address
}

var tables atomic.Int64

func newFilter(n *node, in, out string) fault {
	return &filter{n: n, table: fmt.Sprintf("chaos%d", tables.Add(1)), in: in, out: out}
}

func (f *filter) begin() error {
	rules := strings.NewReplacer("NAME", f.table, "IN", f.in, "OUT", f.out).Replace(`table inet NAME {
		chain in { type filter hook input priority 0; IN; }
		chain out { type filter hook output priority 0; OUT; }
	}`)
	_, err := f.n.insideFed(strings.ReplaceAll(rules, "NET", f.n.l.subnet), "nft", "-f", "-")
	return err
}

func (f *filter) end() error {
	_, err := f.n.inside("nft", "add table inet "+f.table+"; delete table inet "+f.table)
	return err
}

func canFilter(n *node) error {
	return cmp.Or(missing("nft"), try(reset(n, rand.New(rand.NewPCG(0, 0)))), try(loss(n, rand.New(rand.NewPCG(0, 0)))))
}

// accept is a rule that does nothing.
const accept = "meta l4proto tcp accept"

// peers are the addresses of the other members, as a set of nftables.
func (n *node) peers() string {
	var out []string
	for _, p := range n.l.nodes {
		if p != n {
			out = append(out, fmt.Sprintf("NET.%d", p.id))
		}
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

// oneWay: a member hears the others and cannot answer, or the other way around.
func oneWay(n *node, rng *rand.Rand) fault {
	if rng.IntN(2) == 0 {
		return newFilter(n, "ip saddr "+n.peers()+" drop", accept)
	}
	return newFilter(n, accept, "ip daddr "+n.peers()+" drop")
}

// bothWays cuts a member off from the others, not from clients.
func bothWays(n *node, _ *rand.Rand) fault {
	return newFilter(n, "ip saddr "+n.peers()+" drop", "ip daddr "+n.peers()+" drop")
}

// pair cuts a member off from one other: a third reaches both.
func pair(n *node, rng *rand.Rand) fault {
	other := n.l.nodes[rng.IntN(len(n.l.nodes))]
	for other == n {
		other = n.l.nodes[rng.IntN(len(n.l.nodes))]
	}
	in, out := fmt.Sprintf("ip saddr NET.%d drop", other.id), fmt.Sprintf("ip daddr NET.%d drop", other.id)
	switch rng.IntN(3) {
	case 0:
		return newFilter(n, in, accept)
	case 1:
		return newFilter(n, accept, out)
	}
	return newFilter(n, in, out)
}

// world cuts a member off from members and clients.
func world(n *node, _ *rand.Rand) fault {
	return newFilter(n, "ip saddr NET.0/24 drop", "ip daddr NET.0/24 drop")
}

// loss drops some packets.
func loss(n *node, rng *rand.Rand) fault {
	rule := fmt.Sprintf("numgen random mod 100 < %d drop", 10+rng.IntN(21))
	return newFilter(n, rule, rule)
}

// reset answers all segments with RST: connections break on both sides at once.
func reset(n *node, rng *rand.Rand) fault {
	who := ""
	if rng.IntN(2) == 0 {
		who = "ip saddr " + n.peers() + " "
	}
	return newFilter(n, who+"meta l4proto tcp reject with tcp reset", accept)
}

// shaped has little bandwidth, in both directions.
type shaped struct {
	n    *node
	kbit int
}

func bandwidth(n *node, rng *rand.Rand) fault { return shaped{n, 200 + rng.IntN(2000)} }

func (f shaped) begin() error {
	// A queue of 400 ms, as of a router: what is more is dropped.
	args := func(dev string) []string {
		return strings.Fields(fmt.Sprintf("qdisc replace dev %s root tbf rate %dkbit burst 16kb latency 400ms", dev, f.kbit))
	}
	if _, err := f.n.inside(append([]string{"tc"}, args("eth0")...)...); err != nil {
		return err
	}
	_, err := run("tc", args(f.n.veth())...)
	return err
}

func (f shaped) end() error {
	f.n.inside("tc", "qdisc", "del", "dev", "eth0", "root") // an error says that there is none
	run("tc", "qdisc", "del", "dev", f.n.veth(), "root")
	return nil
}

func canShape(n *node) error { return cmp.Or(missing("tc"), try(shaped{n, 1000})) }

// veth is the bridge's end of the member's cable.
func (n *node) veth() string { return fmt.Sprintf("%sv%d", n.l.name, n.id) }

func canDelay(n *node) error { return try(&delayed{n: n, base: ms, jitter: ms}) }
