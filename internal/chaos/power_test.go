//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
)

// cycles returns how many power losses there are to be: 20, or what REPLKV_POWER
// says; 200 at least in long runs.
func cycles(t *testing.T, d time.Duration) int {
	if text := os.Getenv("REPLKV_POWER"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if d >= 20*time.Minute {
		return 200
	}
	return 20
}

// TestPower: all members lose power at once, under load, again and again. Whatever
// was acknowledged is there when they are back.
func TestPower(t *testing.T) {
	n := cycles(t, wanted(t))
	takes(t, time.Duration(n)*3*time.Second+time.Minute)
	seed := chaosSeed(t)
	p := newPower(t, seed, false)
	began := time.Now()
	for range n {
		p.cycle(t)
		if lost := p.lost(t); len(lost) > 0 {
			t.Errorf("cycle %d, seed %d: %d of %d acknowledged writes are lost: %.1000s", p.cycles, seed, len(lost), p.total, strings.Join(lost, "; "))
		}
		p.readLogs()
		for _, v := range p.violations() {
			t.Errorf("cycle %d, seed %d: %s", p.cycles, seed, v)
		}
		if t.Failed() {
			break
		}
	}
	if p.total < p.cycles {
		t.Errorf("seed %d: %d writes were acknowledged in %d cycles: they show nothing", seed, p.total, p.cycles)
	}
	fmt.Printf("chaos: %d power losses of all members in %v, %d writes acknowledged, %d unknown, none lost: %v\n",
		p.cycles, time.Since(began).Round(time.Second), p.total, p.unknown, !t.Failed())
}

// TestPowerFindsLies is the control: with a raft log whose syncs do nothing the
// same must show a loss.
func TestPowerFindsLies(t *testing.T) {
	wanted(t)
	takes(t, time.Minute)
	seed := chaosSeed(t)
	p := newPower(t, seed, true)
	for range 5 {
		p.cycle(t)
		if lost := p.lost(t); len(lost) > 0 {
			fmt.Printf("chaos: members whose log does not sync have lost %d of %d acknowledged writes after %d power losses\n", len(lost), p.total, p.cycles)
			return
		}
	}
	t.Errorf("seed %d: %d power losses of members whose log does not sync have shown nothing", seed, p.cycles)
}

// powerRun is power losses and what was written between them.
type powerRun struct {
	*lab
	all    *client.Client
	rng    *rand.Rand
	cycles int

	mu      sync.Mutex     // protects the fields below
	acked   []string       // keys since the last check
	newest  map[string]int // of each counter
	maybe   map[string]int // key=value of unknown outcome, and its cycle: it may come late, but not after another
	total   int
	unknown int
}

func newPower(t *testing.T, seed uint64, lie bool) *powerRun {
	p := &powerRun{lab: newLab(t, 3, lie), rng: rand.New(rand.NewPCG(seed, 1)), newest: map[string]int{}, maybe: map[string]int{}}
	var addrs []string
	for _, n := range p.nodes {
		addrs = append(addrs, n.addr)
	}
	var err error
	if p.all, err = client.Dial(client.Config{Endpoints: addrs, Insecure: true, RequestTimeout: 3 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.all.Close() })
	return p
}

// cycle writes until the power goes, and brings it back.
func (p *powerRun) cycle(t *testing.T) {
	p.cycles++
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 8 {
		rng := rand.New(rand.NewPCG(p.rng.Uint64(), 0))
		wg.Go(func() { p.write(ctx, rng, w) })
	}
	pauseFor(t.Context(), between(p.rng, 100*ms, 600*ms))
	f := power{p.nodes}
	err := f.begin()
	cancel()
	if err == nil {
		err = f.end()
	}
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// write sets new keys, and rewrites one that counts.
func (p *powerRun) write(ctx context.Context, rng *rand.Rand, worker int) {
	counter := fmt.Sprintf("counter/%d", worker)
	for n := 0; ctx.Err() == nil; n++ {
		key, value := fmt.Sprintf("c%d/%d/%d", p.cycles, worker, n), make([]byte, rng.IntN(2000))
		if n%4 == 0 {
			key, value = counter, fmt.Append(nil, p.cycles*1_000_000+n)
		}
		_, err := p.all.Set(ctx, key, value)
		p.mu.Lock()
		switch {
		case err != nil:
			p.unknown++
			p.maybe[key+"="+string(value)] = p.cycles
		case key == counter:
			p.newest[key] = p.cycles*1_000_000 + n
			p.total++
		default:
			p.acked = append(p.acked, key)
			p.total++
		}
		p.mu.Unlock()
		pauseFor(ctx, between(rng, 0, 3*ms))
	}
}

// lost returns which acknowledged writes are gone. If the members do not elect
// a leader any more, for they notice that they have lost something, it looks at
// what they have.
func (p *powerRun) lost(t *testing.T) (lost []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	have := map[string]string{}
	if !p.lie && p.waitReady(t, 20*time.Second) {
		p.scan(ctx, p.all, have)
	} else {
		p.waitQuietly(ctx)
		for _, n := range p.nodes {
			p.scan(ctx, n.kv, have, kv.Local())
		}
	}
	lost = p.missing(have)
	p.acked = nil
	if _, err := p.all.DeleteRange(ctx, kv.Prefix(fmt.Sprintf("c%d/", p.cycles))); err != nil && !p.lie {
		p.violation("the keys of a cycle cannot be deleted: %v", err)
	}
	return lost
}

// missing are the acknowledged writes that are not there. A counter may have gone back to
// a write of unknown outcome that was under way when the power went, or the time before:
// until then a client may have tried it again.
func (p *powerRun) missing(have map[string]string) (lost []string) {
	for _, key := range p.acked {
		if _, ok := have[key]; !ok {
			lost = append(lost, key)
		}
	}
	for key, newest := range p.newest {
		n, err := strconv.Atoi(have[key])
		if err == nil && n >= newest {
			continue
		}
		if cycle, maybe := p.maybe[key+"="+have[key]]; maybe && cycle >= p.cycles-1 {
			p.newest[key] = n
			continue
		}
		lost = append(lost, fmt.Sprintf("%s=%d, it is %d", key, newest, n))
	}
	return lost
}

// waitQuietly gives members that may not come back a moment to.
func (p *powerRun) waitQuietly(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, n := range p.nodes {
		n.kv.Revision(ctx)
	}
}

func (p *powerRun) scan(ctx context.Context, s kv.KV, have map[string]string, opts ...kv.ScanOption) {
	for item, err := range s.Scan(ctx, kv.All(), opts...) {
		if err != nil {
			p.violation("scan: %v", err)
			return
		}
		have[item.Key] = max(have[item.Key], string(item.Value))
	}
}
