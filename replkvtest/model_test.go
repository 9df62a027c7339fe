package replkvtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/kvmodel"
	"github.com/replkv/replkv/kv"
)

// The model-based test: a script of operations and faults, one after the other,
// through all members of a cluster, whose answers must be those of kvmodel. A script
// that finds a difference is made shorter as long as it still finds one, and printed.

// step is one line of a script. Any part of a script is a script.
type step struct {
	by      int                           // the member that is asked, or the next that is up
	says    string                        // what it does, for people
	do      func(db *replkv.DB) string    // nil: a fault only
	want    func(m *kvmodel.Model) string // the same on the model
	fault   func(c *Cluster)              // before do
	prepare func(m *kvmodel.Model)        // before do: revisions are not part of a script, so that it can be cut
	crash   int                           // this other member dies while do is under way; -1: none
}

func (s *step) String() string {
	out := fmt.Sprintf("m%d: %s", s.by, s.says)
	if s.crash >= 0 {
		out += fmt.Sprintf(", while m%d crashes", s.crash)
	}
	return out
}

// run does a step, and says how the answer differs from the model's.
func (s *step) run(c *Cluster, m *kvmodel.Model) string {
	if s.fault != nil {
		s.fault(c)
	}
	if s.do == nil {
		return ""
	}
	by := s.by
	if s.crash >= 0 {
		c.allUp()
		if by == s.crash {
			by = (by + 1) % c.Len()
		}
	}
	for c.in.Members[by].Down {
		by = (by + 1) % c.Len()
	}
	got := make(chan string, 1)
	go func() { got <- s.do(c.DB(by)) }()
	if s.crash >= 0 {
		c.Crash(s.crash)
	}
	want := s.want(m)
	if got := <-got; got != want {
		return fmt.Sprintf("got  %s\nwant %s", got, want)
	}
	return ""
}

// allUp brings back who is down: at most one member ever is.
func (c *Cluster) allUp() {
	for i, m := range c.in.Members {
		if m.Down {
			c.Restart(i)
		}
	}
	c.WaitReady()
}

// text is an answer that can be compared.
func text(res any, err error) string {
	if err != nil {
		for _, known := range []error{kv.ErrInvalidArgument, kv.ErrConflict, kv.ErrLeaseNotFound, kv.ErrNotFound, kv.ErrCompacted, kv.ErrFutureRevision} {
			if errors.Is(err, known) {
				return known.Error()
			}
		}
		return fmt.Sprintf("%v (%v)", err, kv.OutcomeOf(err))
	}
	switch res := res.(type) {
	case kv.Item:
		return itemsText([]kv.Item{res})
	case []kv.Item:
		return itemsText(res)
	case kv.TxnResult:
		return txnText(&res)
	}
	return fmt.Sprintf("%+v", res)
}

func itemsText(items []kv.Item) string {
	var b strings.Builder
	for _, it := range items {
		fmt.Fprintf(&b, "{%q=%q create %d mod %d version %d lease %d}", it.Key, it.Value, it.CreateRevision, it.ModRevision, it.Version, it.Lease)
	}
	return b.String()
}

func txnText(res *kv.TxnResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v at %d:", res.Succeeded, res.Revision)
	for i := range res.Results {
		r := &res.Results[i]
		fmt.Fprintf(&b, " [%s more %v count %d", itemsText(r.Items), r.More, r.Count)
		if r.Txn != nil {
			b.WriteString(" " + txnText(r.Txn))
		}
		b.WriteString("]")
	}
	return b.String()
}

// call gives an operation a deadline that only a broken store reaches.
func call[T any](do func(context.Context) (T, error)) string {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	res, err := do(ctx)
	return text(res, err)
}

// randomStep makes a step that is interesting where m stands, and does it on m.
func randomStep(rng *rand.Rand, m *kvmodel.Model) *step {
	s := &step{by: rng.IntN(3), crash: -1}
	switch n := rng.IntN(100); {
	case n < 12:
		s.faultStep(rng)
		return s
	case n < 40:
		s.txn(kvmodel.RandomTxn(rng, m, 1))
	case n < 60:
		s.set(rng, m)
	case n < 70:
		s.remove(rng)
	case n < 80:
		s.get(rng)
	case n < 90:
		s.scan(rng)
	case n < 95:
		s.update(rng)
	case n < 98:
		s.lease(rng)
	default:
		s.compact(rng)
	}
	if rng.IntN(8) == 0 {
		s.crash = (s.by + 1 + rng.IntN(2)) % 3
	}
	s.want(m)
	return s
}

func (s *step) faultStep(rng *rand.Rand) {
	i := s.by
	switch rng.IntN(5) {
	case 0, 1:
		s.says, s.fault = "crashes", func(c *Cluster) {
			c.allUp()
			c.Crash(i)
		}
	case 2:
		s.says, s.fault = "and all others are up", func(c *Cluster) { c.allUp() }
	case 3:
		s.says, s.fault = "gives up leadership, if it leads", func(c *Cluster) {
			c.allUp()
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			if lead := c.Leader(); lead == i {
				c.DB(i).TransferLeadership(ctx, "") // if it fails, the same member leads on
			}
		}
	case 4:
		s.says, s.fault = "is cut off for a while", func(c *Cluster) {
			c.allUp()
			c.Partition([]int{(i + 1) % 3, (i + 2) % 3})
			c.wait("a leader without it", func() bool {
				id := c.DB((i + 1) % 3).Status().LeaderID
				return id != "" && id != c.in.Members[i].ID
			})
			c.Heal()
		}
	}
}

func (s *step) txn(t *kv.Txn) {
	s.says = fmt.Sprintf("Txn %v", t)
	s.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (kv.TxnResult, error) { return db.Txn(ctx, *t) })
	}
	s.want = func(m *kvmodel.Model) string {
		if err := t.Validate(); err != nil {
			return text(nil, err)
		}
		return text(m.Txn(t))
	}
}

func (s *step) set(rng *rand.Rand, m *kvmodel.Model) {
	key, value := kvmodel.RandomKey(rng), fmt.Appendf(nil, "v%d", rng.IntN(1000))
	s.says = fmt.Sprintf("Set %q=%q", key, value)
	var opts []replkv.SetOption
	conditional, rev := rng.IntN(2) == 0, kv.Revision(0)
	if it, ok := m.At(key, m.Rev); ok && rng.IntN(2) == 0 {
		rev = it.ModRevision
	}
	lease := kv.LeaseID(0)
	if rng.IntN(3) == 0 {
		lease = kvmodel.RandomLease(rng)
		opts = append(opts, replkv.WithLease(lease))
		s.says += fmt.Sprintf(" with lease %d", lease)
	}
	if conditional {
		opts = append(opts, replkv.IfRevision(rev))
		s.says += fmt.Sprintf(" if its revision is %d", rev)
	}
	s.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (replkv.Revision, error) { return db.Set(ctx, key, value, opts...) })
	}
	s.want = func(m *kvmodel.Model) string {
		it, _ := m.At(key, m.Rev)
		if it.Version == 0 {
			it.ModRevision = 0
		}
		if conditional && it.ModRevision != rev {
			return text(nil, kv.ErrConflict)
		}
		op := kv.SetOp(key, value)
		op.Lease = lease
		res, err := m.Txn(&kv.Txn{Then: []kv.Op{op}})
		return text(res.Revision, err)
	}
}

func (s *step) remove(rng *rand.Rand) {
	r := kvmodel.RandomRange(rng)
	s.says = fmt.Sprintf("DeleteRange %v", r)
	answer := func(n int64, rev kv.Revision, prev []kv.Item) string {
		return fmt.Sprintf("%d at %d: %s", n, rev, itemsText(prev))
	}
	s.do = func(db *replkv.DB) string {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		res, err := db.DeleteRange(ctx, r, replkv.ReturnPrev())
		if err != nil {
			return text(nil, err)
		}
		return answer(res.Deleted, res.Revision, res.Prev)
	}
	s.want = func(m *kvmodel.Model) string {
		op := kv.DeleteOp(r)
		op.ReturnPrev = true
		res, _ := m.Txn(&kv.Txn{Then: []kv.Op{op}})
		return answer(res.Results[0].Count, res.Revision, res.Results[0].Items)
	}
}

// past is a revision that is back steps old, or the oldest there is.
func past(m *kvmodel.Model, back int) kv.Revision {
	return max(1, m.Compacted, m.Rev-kv.Revision(back))
}

func (s *step) get(rng *rand.Rand) {
	key, back := kvmodel.RandomKey(rng), rng.IntN(10)
	s.says = fmt.Sprintf("Get %q, %d revisions ago", key, back)
	rev := kv.Revision(0)
	s.do = func(db *replkv.DB) string {
		opts := []replkv.GetOption{}
		if back > 0 {
			opts = append(opts, replkv.AtRevision(rev))
		}
		return call(func(ctx context.Context) (replkv.Item, error) { return db.Get(ctx, key, opts...) })
	}
	s.prepare = func(m *kvmodel.Model) { rev = past(m, back) }
	s.want = func(m *kvmodel.Model) string {
		it, ok := m.At(key, past(m, back))
		if !ok {
			return text(nil, kv.ErrNotFound)
		}
		return text(it, nil)
	}
}

func (s *step) scan(rng *rand.Rand) {
	r, back, reverse, limit := kvmodel.RandomRange(rng), rng.IntN(10), rng.IntN(2) == 0, rng.IntN(4)
	s.says = fmt.Sprintf("Scan %v, %d revisions ago, reverse %v, limit %d", r, back, reverse, limit)
	rev := kv.Revision(0)
	s.prepare = func(m *kvmodel.Model) { rev = past(m, back) }
	s.do = func(db *replkv.DB) string {
		opts := []replkv.ScanOption{replkv.AtRevision(rev), replkv.Limit(limit)}
		if reverse {
			opts = append(opts, replkv.Reverse())
		}
		return call(func(ctx context.Context) (items []replkv.Item, err error) {
			for it, err := range db.Scan(ctx, r, opts...) {
				if err != nil {
					return nil, err
				}
				items = append(items, it)
			}
			return items, nil
		})
	}
	s.want = func(m *kvmodel.Model) string {
		items := m.Scan(r, past(m, back), reverse)
		if limit > 0 && len(items) > limit {
			items = items[:limit]
		}
		return text(items, nil)
	}
}

// update writes down what an Update reads.
func (s *step) update(rng *rand.Rand) {
	read, r, write := kvmodel.RandomKey(rng), kvmodel.RandomRange(rng), kvmodel.RandomKey(rng)
	s.says = fmt.Sprintf("Update: Get %q, Scan %v, Set %q to what was read", read, r, write)
	s.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (replkv.Revision, error) {
			return db.Update(ctx, func(tx *replkv.Tx) error {
				it, err := tx.Get(read)
				if err != nil && !errors.Is(err, kv.ErrNotFound) {
					return err
				}
				items := []kv.Item{it}
				for it, err := range tx.Scan(r) {
					if err != nil {
						return err
					}
					items = append(items, it)
				}
				return tx.Set(write, hashOf(items))
			})
		})
	}
	s.want = func(m *kvmodel.Model) string {
		it, ok := m.At(read, m.Rev)
		if !ok {
			it = kv.Item{}
		}
		value := hashOf(append([]kv.Item{it}, m.Scan(r, m.Rev, false)...))
		res, err := m.Txn(&kv.Txn{Then: []kv.Op{kv.SetOp(write, value)}})
		return text(res.Revision, err)
	}
}

// lease grants or revokes one. They last longer than any script.
func (s *step) lease(rng *rand.Rand) {
	id := kvmodel.RandomLease(rng)
	if rng.IntN(3) > 0 {
		s.says = fmt.Sprintf("Grant %d", id)
		s.do = func(db *replkv.DB) string {
			return call(func(ctx context.Context) (replkv.LeaseID, error) {
				return db.Grant(ctx, 24*time.Hour, replkv.WithLeaseID(id))
			})
		}
		s.want = func(m *kvmodel.Model) string {
			if m.Leases[id] {
				return text(nil, kv.ErrConflict)
			}
			m.Leases[id] = true
			return text(id, nil)
		}
		return
	}
	s.says = fmt.Sprintf("Revoke %d", id)
	s.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (any, error) { return nil, db.Revoke(ctx, id) })
	}
	s.want = func(m *kvmodel.Model) string {
		if !m.Leases[id] {
			return text(nil, kv.ErrLeaseNotFound)
		}
		m.Revoke(id)
		return text(nil, nil)
	}
}

func (s *step) compact(rng *rand.Rand) {
	back := rng.IntN(12)
	s.says = fmt.Sprintf("Compact, %d revisions ago", back)
	rev := kv.Revision(0)
	s.prepare = func(m *kvmodel.Model) { rev = max(1, m.Rev-kv.Revision(back)) }
	s.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (any, error) { return nil, db.Compact(ctx, rev) })
	}
	s.want = func(m *kvmodel.Model) string {
		rev := max(1, m.Rev-kv.Revision(back))
		if rev <= m.Compacted {
			return text(nil, kv.ErrCompacted)
		}
		m.Compacted = rev
		return text(nil, nil)
	}
}

// hashOf is short, so that values do not grow from Update to Update.
func hashOf(items []kv.Item) []byte {
	h := uint64(14695981039346656037)
	for _, b := range []byte(itemsText(items)) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return fmt.Appendf(nil, "%x", h)
}

func randomScript(rng *rand.Rand, n int) (script []*step) {
	m := kvmodel.New()
	for range n {
		script = append(script, randomStep(rng, &m))
	}
	return script
}

// runScript says where and how the cluster differs from the model; -1: nowhere.
func runScript(t *testing.T, script []*step) (at int, diff string) {
	at = -1
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 3, WithConfig(smallLogs))
		m := kvmodel.New()
		for i, s := range script {
			if s.prepare != nil {
				s.prepare(&m)
			}
			if diff = s.run(c, &m); diff != "" {
				at = i
				break
			}
		}
		c.allUp()
	})
	return at, diff
}

// shrink takes parts out of a script as long as it still finds a difference.
func shrink(t *testing.T, script []*step) ([]*step, string) {
	at, diff := runScript(t, script)
	script = script[:at+1]
	for size := len(script) / 2; size > 0; size /= 2 {
		for from := 0; from+size < len(script); {
			shorter := slices.Delete(slices.Clone(script), from, from+size)
			if at, d := runScript(t, shorter); at >= 0 {
				script, diff = shorter[:at+1], d
			} else {
				from += size
			}
		}
	}
	return script, diff
}

func TestModel(t *testing.T) {
	seeds, steps := 12, 150
	if testing.Short() {
		seeds, steps = 2, 80
	}
	if n, err := strconv.Atoi(os.Getenv("REPLKV_MODEL_SEEDS")); err == nil {
		seeds = n // for a long run
	}
	fresh := rand.Uint64N(1 << 32)
	for i := range seeds {
		seed := uint64(i)
		if i >= seeds/2 {
			seed = fresh + uint64(i)
		}
		script := randomScript(rand.New(rand.NewPCG(seed, 7)), steps)
		if at, diff := runScript(t, script); at >= 0 {
			t.Errorf("seed %d, step %d, %v:\n%s", seed, at, script[at], diff)
			script, diff = shrink(t, script)
			t.Fatalf("the shortest script that differs:\n%s\n%s", list(script), diff)
		}
	}
}

func list(script []*step) string {
	var b strings.Builder
	for i, s := range script {
		fmt.Fprintf(&b, "%3d  %v\n", i, s)
	}
	return b.String()
}

// TestModelShrinks: a script that differs from a wrong model comes down to the few
// lines that show it.
func TestModelShrinks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	script := slices.DeleteFunc(randomScript(rng, 60), func(s *step) bool { // what may delete the planted key
		return strings.HasPrefix(s.says, "Delete") || strings.HasPrefix(s.says, "Txn")
	})
	planted := &step{by: 1, crash: -1, says: "Set of a new value, of which the model thinks that it is the key's first"}
	planted.do = func(db *replkv.DB) string {
		return call(func(ctx context.Context) (int64, error) {
			if _, err := db.Set(ctx, "planted", nil); err != nil {
				return 0, err
			}
			it, err := db.Get(ctx, "planted")
			return it.Version, err
		})
	}
	planted.want = func(m *kvmodel.Model) string {
		m.Txn(&kv.Txn{Then: []kv.Op{kv.SetOp("planted", nil)}})
		return "1"
	}
	script = append(slices.Insert(script, 7, planted), planted)
	if at, _ := runScript(t, script); at != len(script)-1 {
		t.Fatalf("the difference shows at step %d of %d", at, len(script))
	}
	script, diff := shrink(t, script)
	if len(script) != 2 || script[0] != planted || diff != "got  2\nwant 1" {
		t.Errorf("came down to\n%s%s", list(script), diff)
	}
}
