package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/sim/cluster"
)

// Config says what to run.
type Config struct {
	Seed    uint64
	Length  time.Duration // virtual, while there is harm and load; 0: 30 s
	Profile string        // of the nemesis; "": the seed picks one
	Out     string        // directory for what is to be looked at; "": the system's for temporary files
	Keep    bool          // the report of a run that passed, too
}

// DefaultLength is long enough for a dozen elections, and done in a second.
const DefaultLength = 30 * time.Second

// run is one simulation.
type run struct {
	cfg     Config
	plan    plan
	c       *cluster.Cluster
	log     *timeline
	hist    *history
	cover   counters
	clients int
	work    []workload
	nemesis *nemesis
	remotes *remotes
	past    *past // nil if it is not known

	acknowledged int // while there was harm

	mu       sync.Mutex // protects the field below
	failures []string
}

// workload is what clients do, and what is demanded of it.
type workload interface {
	// begin prepares, on a cluster that is well.
	begin(ctx context.Context, r *run) error
	// clients run at the same time until their ctx ends.
	clients(r *run) []func(ctx context.Context)
	// settle looks at the cluster that is well again; nothing else happens then.
	settle(ctx context.Context, r *run)
	// check judges, out of the bubble.
	check(r *run)
}

// workloads by name. Which of them run is the seed's choice.
var workloads = map[string]func() workload{
	"append":   func() workload { return appends{} },
	"bank":     func() workload { return &bank{} },
	"lease":    func() workload { return &leases{} },
	"lock":     func() workload { return &locks{} },
	"register": func() workload { return registers{} },
	"set":      func() workload { return sets{} },
	"watch":    func() workload { return &watches{} },
}

func workloadNames() (names []string) {
	for name := range workloads {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run runs a seed, and fails t with a report if anything is wrong.
func Run(t *testing.T, cfg Config) Coverage {
	t.Helper()
	if cfg.Length == 0 {
		cfg.Length = DefaultLength
	}
	if cfg.Out == "" {
		cfg.Out = os.TempDir()
	}
	p, err := newPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(cfg, p)
	for _, name := range p.workloads {
		r.work = append(r.work, workloads[name]())
	}
	r.bubble(t)
	if tracing() {
		r.trace(t)
	}
	r.check()
	r.checkLoad()
	r.report(t)
	return r.cover.by
}

func newRun(cfg Config, p plan) *run {
	return &run{cfg: cfg, plan: p, hist: &history{}, cover: counters{by: Coverage{}}}
}

// bubble is the part in virtual time.
func (r *run) bubble(t *testing.T) {
	defer func() {
		// Goroutines of an engine whose disk failed stay for ever, as documented:
		// nothing can end them safely.
		p := recover()
		if p == nil {
			return
		}
		ended := strings.Contains(fmt.Sprint(p), "main bubble goroutine has exited")
		if !ended || r.nemesis == nil || !r.nemesis.stranded {
			r.fail("goroutines are left: %v\n%s", p, leftGoroutines())
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		r.log = &timeline{began: time.Now()}
		if err := r.inside(); err != nil {
			r.fail("%v", err)
		}
	})
}

// leftGoroutines are the stacks of those in a bubble.
func leftGoroutines() string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var b strings.Builder
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "synctest bubble") {
			b.WriteString(g + "\n\n")
		}
	}
	return b.String()
}

// inside runs the cluster, from its birth to its end.
func (r *run) inside() (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(); err != nil {
		return err
	}
	whole := context.Background()
	for _, w := range r.work {
		if err := w.begin(whole, r); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
	}
	r.load()
	began := time.Now()
	if err := r.nemesis.heal(); err != nil {
		return fmt.Errorf("after all is healed: %w", err)
	}
	r.log.add("nemesis", "all is well again after %v", time.Since(began))
	r.lastWrites(whole)
	for _, w := range r.work {
		w.settle(whole, r)
	}
	if err := r.readPast(whole); err != nil {
		return err
	}
	if err := r.c.CheckEqual(); err != nil {
		return err
	}
	up := r.c.Up()
	if err := r.c.CheckBackup(up[int(r.cfg.Seed%uint64(len(up)))]); err != nil {
		return err
	}
	r.cover.add(countSeconds, int(time.Since(r.log.began).Seconds()))
	return nil
}

// open starts the cluster, and waits until it serves.
func (r *run) open() error {
	r.c = cluster.New(r.plan.members)
	r.nemesis = newNemesis(r)
	r.c.Config, r.c.Edges = r.configure, r.nemesis.edges
	r.remotes = &remotes{r: r, servers: map[int]*grpc.Server{}}
	r.nemesis.network()
	for i := range r.plan.members {
		if err := r.nemesis.start(i); err != nil {
			return fmt.Errorf("open member %d: %w", i, err)
		}
	}
	return r.c.Ready()
}

// load has clients work and the nemesis do harm for the length of the run.
func (r *run) load() {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Length)
	defer cancel()
	before := r.hist.known()
	var wg sync.WaitGroup
	for _, w := range r.work {
		for _, client := range w.clients(r) {
			wg.Go(func() { client(ctx) })
		}
	}
	r.nemesis.run(ctx)
	wg.Wait()
	r.acknowledged = r.hist.known() - before + r.cover.of(countLeaseCalls)
}

// lastWrites: after all harm each member takes a write.
func (r *run) lastWrites(ctx context.Context) {
	for _, i := range r.c.Up() {
		key := fmt.Sprintf("last/%d", i)
		op := &Op{Kind: "last write", Member: r.c.Members[i].ID, Key: key, Puts: map[string]string{key: ""}}
		if err := r.note(op, func() (err error) {
			op.Revision, err = r.c.DB(i).Set(ctx, key, nil)
			return err
		}); err != nil {
			r.fail("although all is well again: %v", op)
		}
	}
}

// leastLoad is what must have been acknowledged under harm: nothing can be judged else.
// Each client has called once before the first harm, though not all of them wait for the
// answer. Of seeds 0 to 134 the poorest, 101, whose clients sleep through most of their
// leases, had 8 without those that grant or revoke one.
const leastLoad = 3

func (r *run) checkLoad() {
	if r.acknowledged < leastLoad {
		r.fail("%d calls were acknowledged under harm, want %d at least", r.acknowledged, leastLoad)
	}
}

// teardown is the longest that a member which has stopped takes to free what it has.
const teardown = 40 * time.Second

// close ends all members; then nothing may be left.
func (r *run) close() error {
	r.nemesis.duplicates.close()
	for _, m := range r.c.Members {
		if db := m.DB(); db != nil && db.Err() != nil {
			pause(context.Background(), teardown)
		}
	}
	err := errors.Join(r.remotes.close(), r.c.Close())
	pause(context.Background(), 10*time.Second) // what is asleep in the background wakes, and ends
	return err
}

func (r *run) configure(i int, cfg *replkv.Config) {
	r.plan.configure(cfg)
	cfg.Events = r.events(cfg.ID)
	cfg.Logger = slog.New(memberLog{log: r.log, who: cfg.ID})
	cfg.PeerDialOptions = append(cfg.PeerDialOptions, r.nemesis.duplicates.options()...)
	r.nemesis.eager(i, cfg)
	r.log.add(cfg.ID, "opens")
}

// fail notes that something is wrong.
func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const enough = 50
	if len(r.failures) < enough {
		r.failures = append(r.failures, fmt.Sprintf(format, args...))
	}
}

func (r *run) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

// readPast reads what was committed from each member, which must tell the same; or
// takes what watchers saw, if it may be compacted.
func (r *run) readPast(ctx context.Context) (err error) {
	if r.plan.history >= 0 {
		for _, w := range r.work {
			if w, ok := w.(*watches); ok {
				r.past, err = newPast(w.seen(), w.final)
			}
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	events := map[replkv.Revision][]replkv.Event{}
	ups := r.c.Up()
	final, err := r.c.DB(ups[0]).Revision(ctx)
	if err != nil {
		return fmt.Errorf("the final revision: %w", err)
	}
	for _, i := range ups {
		if err := r.readMember(ctx, i, final, events); err != nil {
			return err
		}
	}
	r.past, err = newPast(events, final)
	if err == nil && !r.past.whole() {
		err = fmt.Errorf("revisions are missing in the history")
	}
	return err
}

func (r *run) readMember(ctx context.Context, i int, final replkv.Revision, events map[replkv.Revision][]replkv.Event) error {
	if final < 2 {
		return nil
	}
	for c, err := range r.c.DB(i).Watch(ctx, replkv.All(), replkv.FromRevision(2)) {
		if err != nil {
			return fmt.Errorf("the history that member %d tells: %w", i, err)
		}
		known, ok := events[c.Revision]
		if ok && !slices.EqualFunc(known, c.Events, func(a, b replkv.Event) bool { return a.Kind == b.Kind && same(a.Item, b.Item) }) {
			return fmt.Errorf("member %d tells %v of revision %d, another %v", i, c.Events, c.Revision, known)
		}
		if events[c.Revision] = c.Events; c.Revision >= final {
			break
		}
	}
	return nil
}

// check judges what was recorded.
func (r *run) check() {
	for _, o := range r.hist.ops {
		r.cover.add(countOps, 1)
		switch o.Outcome {
		case replkv.OutcomeDone:
			r.count(countDone)
			if o.dropped() {
				r.count(countDropped)
			}
		case replkv.OutcomeNotDone:
			r.count(countNotDone)
		default:
			r.count(countUnknown)
			if o.Conditional {
				r.count(countUnknownIf)
			}
		}
	}
	switch {
	case r.past != nil:
		r.past.checkVersions(r)
		r.checkPast()
	case !r.failed():
		r.fail("nothing is known of what was committed")
	}
	for _, w := range r.work {
		w.check(r)
	}
	r.checkElections()
}

// checkElections: leaders change because of harm, not by themselves.
func (r *run) checkElections() {
	seconds := int((r.cfg.Length + time.Minute).Seconds())
	if n := r.cover.by[countElections]; n > seconds {
		r.fail("there were %d elections in %v", n, r.cfg.Length)
	}
}
