//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
)

// wanted returns how long REPLKV_CHAOS asks for, and skips the test if it does not.
func wanted(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("REPLKV_CHAOS")
	if text == "" || testing.Short() {
		t.Skip("takes root, and a minute or more: set REPLKV_CHAOS to a duration, such as 60s, and leave out -short")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	needRoot(t)
	return d
}

// takes fails the test if go test's -timeout leaves less than what it takes.
func takes(t *testing.T, d time.Duration) {
	t.Helper()
	if end, ok := t.Deadline(); ok && time.Until(end) < d {
		t.Fatalf("this takes %v, and go test's -timeout leaves %v: give it twice REPLKV_CHAOS and 20 minutes", d, time.Until(end).Round(time.Second))
	}
}

// chaosSeed is REPLKV_CHAOS_SEED or a fresh one. The schedule and what clients want
// to do follow from it; what happens then is the machine's choice.
func chaosSeed(t *testing.T) uint64 {
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("REPLKV_CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("chaos: %s with REPLKV_CHAOS_SEED=%d\n", t.Name(), seed)
	return seed
}

// TestChaos has rounds, each with a kind of faults, every kind in turn, at times
// two at once. It demands of each round that
//   - single keys are linearizable, transactions strictly serializable;
//   - locks exclude each other, by time and by token;
//   - watches tell all that was committed, once and in order;
//   - whatever was acknowledged is there, and what was not done is not;
//   - all members serve again within 30 s after the faults, and hold the same;
//   - no member ends, or logs an alarm, but by what its fault explains.
func TestChaos(t *testing.T) {
	d := wanted(t)
	takes(t, d+2*time.Minute)
	seed := chaosSeed(t)
	long := d >= 10*time.Minute
	d -= min(d/3, 30*time.Second) // for the power tests
	l := newLab(t, 3, false)
	c := &chaos{lab: l, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), rows: map[string]*row{}, fault: 4 * time.Second}
	var addrs []string
	for _, n := range l.nodes {
		addrs = append(addrs, n.addr)
	}
	var err error
	if c.all, err = client.Dial(client.Config{Endpoints: addrs, Insecure: true, RequestTimeout: 3 * time.Second}); err != nil {
		t.Fatal(err)
	}
	defer c.all.Close()
	c.choose(t)
	defer func() { fmt.Print(c.table()) }()
	for end := time.Now().Add(d); time.Now().Before(end) && c.round(t); {
	}
	c.finish(t)
	if held := c.sum().held; held == 0 {
		t.Errorf("seed %d: nobody held the lock in %d rounds", seed, c.rounds)
	}
	if long {
		c.covered(t)
	}
}

// covered complains of what should have happened in a long run and has not.
func (c *chaos) covered(t *testing.T) {
	for _, k := range c.possible {
		if c.rows[k.name] == nil || c.rows[k.name].times == 0 {
			t.Errorf("there was no fault %q", k.name)
		}
		for _, class := range k.explains {
			if w := c.rows[k.name]; w != nil && w.ends[class] == 0 && !k.everybody {
				t.Errorf("no member ended with %q by the fault %q", class, k.name)
			}
		}
	}
	for _, m := range marks {
		if c.marked[m] == 0 {
			t.Errorf("no member has logged %q", m)
		}
	}
}

// chaos is a run of TestChaos.
type chaos struct {
	*lab
	seed  uint64
	rng   *rand.Rand
	all   *client.Client
	fault time.Duration // how long faults go on in a round

	possible []kind
	turn     []kind // those whose turn is to come
	rounds   int
	kept     []string
	rows     map[string]*row
	order    []string // of rows
	skipped  []string // why kinds are
}

// choose finds out what this machine can do. REPLKV_CHAOS_KINDS, names separated by
// semicolons, leaves others out.
func (c *chaos) choose(t *testing.T) {
	only := strings.FieldsFunc(os.Getenv("REPLKV_CHAOS_KINDS"), func(r rune) bool { return r == ';' })
	for _, k := range kinds {
		if len(only) > 0 && !slices.Contains(only, k.name) {
			continue
		}
		if k.possible != nil {
			if err := k.possible(c.nodes[0]); err != nil {
				c.skipped = append(c.skipped, fmt.Sprintf("SKIPPED: %s: %v", k.name, err))
				fmt.Println("chaos:", c.skipped[len(c.skipped)-1])
				continue
			}
		}
		c.possible = append(c.possible, k)
	}
	if len(c.possible) == 0 {
		t.Fatal("no kind of faults is left")
	}
}

// next is the kind whose turn it is.
func (c *chaos) next() kind {
	if len(c.turn) == 0 {
		c.turn = slices.Clone(c.possible)
		c.rng.Shuffle(len(c.turn), func(i, j int) { c.turn[i], c.turn[j] = c.turn[j], c.turn[i] })
	}
	k := c.turn[0]
	c.turn = c.turn[1:]
	return k
}

// round is one with the kind whose turn it is. It says whether the cluster has
// healed, and the next may begin.
func (c *chaos) round(t *testing.T) bool {
	k := c.next()
	c.rounds++
	r := &round{l: c.lab, prefix: fmt.Sprintf("r%d/", c.rounds), all: c.all}
	w := newRow(k.name)
	watching, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.watchTerms(watching, c.lab) })
	kept, healed := r.live(t, c.rng.Uint64(), func() {
		pauseFor(t.Context(), 500*ms)
		c.faults(t, k, w)
		if err := c.up(); err != nil {
			t.Error(err)
		}
		pauseFor(t.Context(), 500*ms)
	})
	stop()
	wg.Wait()
	c.kept = append(c.kept, kept...)
	c.readLogs()
	w.add(r)
	for _, n := range c.nodes {
		n.unexplain()
	}
	for _, v := range c.violations() {
		w.violations++
		t.Errorf("round %d, %s, seed %d: %s", c.rounds, k.name, c.seed, v)
	}
	t.Logf("round %d: %v", c.rounds, w)
	if c.rows[k.name] == nil {
		c.rows[k.name] = newRow(k.name)
		c.order = append(c.order, k.name)
	}
	c.rows[k.name].join(w)
	return healed
}

// faults begins and ends faults of a kind, one after the other; at times another
// of any kind comes upon another member meanwhile.
func (c *chaos) faults(t *testing.T, k kind, w *row) {
	for end := time.Now().Add(c.fault); time.Now().Before(end) && t.Context().Err() == nil; {
		victim := c.victim(t.Context())
		var wg sync.WaitGroup
		if !k.everybody && c.rng.IntN(3) == 0 {
			other, second := c.possible[c.rng.IntN(len(c.possible))], c.nodes[c.rng.IntN(len(c.nodes))]
			wait, seed := between(c.rng, 0, 500*ms), c.rng.Uint64()
			if second != victim && !other.everybody {
				w.seconds++
				wg.Go(func() {
					pauseFor(t.Context(), wait)
					c.one(t, other, second, rand.New(rand.NewPCG(seed, 0)))
				})
			}
		}
		if c.one(t, k, victim, rand.New(rand.NewPCG(c.rng.Uint64(), 0))) {
			w.times++
		}
		wg.Wait()
		calm := between(c.rng, 100*ms, 700*ms)
		if k.everybody {
			calm += 2 * electionTimeout // so that something is written in between
		}
		pauseFor(t.Context(), calm)
	}
}

// one is one fault, from its beginning to its end.
func (c *chaos) one(t *testing.T, k kind, n *node, rng *rand.Rand) bool {
	victims := []*node{n}
	if k.everybody {
		victims = c.nodes
	}
	for _, v := range victims {
		v.explain(k.explains...) // until the round is over: what it began may take its time
	}
	f := k.make(n, rng)
	err := f.begin()
	if err == nil {
		pauseFor(t.Context(), between(rng, k.from, k.to))
	}
	begun := err == nil
	if errors.Is(err, errDown) {
		err = nil
	}
	if err = errors.Join(err, f.end()); err != nil {
		t.Errorf("round %d: fault %s on %v: %v", c.rounds, k.name, n, err)
	}
	return begun
}

// victim is the leader every other time.
func (c *chaos) victim(ctx context.Context) *node {
	if n := c.leader(ctx); n != nil && c.rng.IntN(2) == 0 {
		return n
	}
	return c.nodes[c.rng.IntN(len(c.nodes))]
}

// finish restarts all, and looks for what the rounds left.
func (c *chaos) finish(t *testing.T) {
	for _, n := range c.nodes {
		if err := n.kill(); err != nil {
			t.Error(err)
		}
	}
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if c.waitReady(t, 30*time.Second) {
		there := map[string]bool{}
		for item, err := range c.all.Scan(ctx, kv.Prefix("keep/"), kv.KeysOnly()) {
			if err != nil {
				c.violation("the last scan: %v", err)
				break
			}
			there[item.Key] = true
		}
		for _, key := range c.kept {
			if !there[key] {
				c.violation("%s was acknowledged, and is lost", key)
			}
		}
		rev, err := c.all.Revision(ctx)
		if err != nil {
			c.violation("%v", err)
		}
		c.equal(ctx, rev)
		t.Logf("%d keys of %d rounds are there after a restart of all", len(c.kept), c.rounds)
	}
	c.readLogs()
	for _, v := range c.violations() {
		t.Errorf("at the end, seed %d: %s", c.seed, v)
	}
}

// picture draws a history that has no order.
func (l *lab) picture(key string, history []porcupine.Operation) {
	_, info := porcupine.CheckOperationsVerbose(registerModel, history, 20*time.Second)
	name := filepath.Join(os.TempDir(), "chaos-"+strings.ReplaceAll(key, "/", "-")+".html")
	l.t.Logf("a picture is in %s (%v)", name, porcupine.VisualizePath(registerModel, info, name))
}
