package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/replkv/replkv"
)

// plan is what a seed makes of a run.
type plan struct {
	members   int
	profile   profile
	election  time.Duration
	request   time.Duration // RequestTimeout
	snapshot  int64         // SnapshotLogBytes
	trailing  int64         // TrailingLogBytes
	entries   uint64        // that stay in the log behind a snapshot; 0: as many as always
	history   time.Duration // HistoryAge; negative: all is kept
	sync      time.Duration // of the log's disk
	delay     time.Duration // of the network, one way, at most
	pause     time.Duration // of a client between operations, at most
	remote    bool          // half of the clients have no member in their process
	workloads []string
}

// random returns the random numbers of one purpose.
func (c Config) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, stream)) }

// Streams of random numbers, so that one more number here changes nothing there.
const (
	streamPlan = iota
	streamNemesis
	streamNetwork
	streamLeases
	streamDuplicates
	streamClients = 1000
)

func newPlan(cfg Config) (plan, error) {
	rng := cfg.random(streamPlan)
	p := plan{
		members:  pick(rng, 3, 3, 3, 3, 5),
		election: time.Millisecond * pick[time.Duration](rng, 500, 1000, 1000, 2000, 2000),
		request:  time.Second * pick[time.Duration](rng, 2, 5, 10),
		snapshot: pick[int64](rng, 2<<10, 8<<10, 16<<10, 32<<10, 64<<20),
		trailing: pick[int64](rng, 1, 1<<10, 8<<10),
		delay:    time.Millisecond * pick[time.Duration](rng, 1, 10, 10, 40),
		pause:    time.Millisecond * pick[time.Duration](rng, 200, 500, 1000),
		history:  -1,
		sync:     time.Millisecond * pick[time.Duration](rng, 0, 1, 5, 20),
	}
	if rng.IntN(5) == 0 {
		p.history = time.Duration(1+rng.IntN(10)) * time.Second
	}
	p.profile = profiles[rng.IntN(len(profiles))]
	if cfg.Profile != "" {
		var ok bool
		if p.profile, ok = profileOf(cfg.Profile); !ok {
			return p, fmt.Errorf("sim: there is no profile %q", cfg.Profile)
		}
	}
	p.remote = rng.IntN(3) == 0
	for _, name := range workloadNames() {
		if rng.IntN(2) == 0 {
			p.workloads = append(p.workloads, name)
		}
	}
	if len(p.workloads) < 2 {
		p.workloads = []string{"register", "watch"}
	}
	if p.history >= 0 && !slices.Contains(p.workloads, "watch") {
		p.workloads = append(p.workloads, "watch") // only watchers know what was committed
	}
	// A follower refuses an append that begins before its log. The leader goes back to the
	// end of its own, and sends the state, which it is told to be covered: so it must have
	// truncated, too; and with a handful of entries even that may not do (docs/bugs.md).
	if rng.IntN(2) == 0 && p.snapshot <= 8<<10 {
		p.entries = 32 + rng.Uint64N(16)
	}
	return p, nil
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func (p *plan) String() string {
	return fmt.Sprintf("%d members, faults %q, election %v, snapshot after %d bytes, trailing %d bytes and %d entries, history %v, delay <%v, sync %v, pause <%v, remote clients %v, workloads %v",
		p.members, p.profile.name, p.election, p.snapshot, p.trailing, p.entries, p.history, p.delay, p.sync, p.pause, p.remote, p.workloads)
}

// configure is what all members of the run have.
func (p *plan) configure(cfg *replkv.Config) {
	cfg.ElectionTimeout, cfg.RequestTimeout, cfg.HistoryAge = p.election, p.request, p.history
	cfg.SnapshotLogBytes, cfg.TrailingLogBytes = p.snapshot, p.trailing
	cfg.CacheBytes = 4 << 20
}
