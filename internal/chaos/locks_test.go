//go:build linux

package chaos

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
)

// locks is sessions that share a lock. No two may hold it at once as the clock of
// this process tells, and what they write guarded by it stands in the order of
// their tokens.
type locks struct {
	r *round

	mu      sync.Mutex // protects the fields below
	holding []holding
	guarded map[string]bool // tokens of guarded writes that were acknowledged
}

// holding is from when Lock has returned until before Unlock is called, or the
// session says that the lock may be lost, which a call under way does not put off.
type holding struct {
	token    concurrency.Token
	from, to time.Time
}

// lockTTL is short, so that faults outlast it.
const lockTTL = time.Second

func newLocks(r *round) *locks { return &locks{r: r, guarded: map[string]bool{}} }

func (k *locks) work(ctx context.Context, rng *rand.Rand, _ int) {
	for ctx.Err() == nil {
		s, err := concurrency.NewSession(ctx, k.r.anyKV(rng), lockTTL)
		k.r.write(err)
		if err != nil {
			pause4(ctx, rng)
			continue
		}
		ended := make(chan time.Time, 1)
		go func() { <-s.Done(); ended <- time.Now() }()
		for n := 0; n < 20 && s.Err() == nil; n++ {
			k.once(ctx, rng, s, ended)
			pause4(ctx, rng)
		}
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		s.Close(closing) // else the lease ends by itself
		cancel()
	}
}

func (k *locks) once(ctx context.Context, rng *rand.Rand, s *concurrency.Session, ended <-chan time.Time) {
	m := concurrency.NewMutex(s, k.r.prefix+"lock")
	waiting, cancel := context.WithTimeout(ctx, 3*time.Second)
	token, err := m.Lock(waiting)
	cancel()
	if err != nil {
		k.r.read(err)
		return
	}
	h := holding{token: token, from: time.Now()}
	k.guard(ctx, m, token)
	keep := between(rng, 0, 10*ms)
	if rng.IntN(20) == 0 {
		keep = lockTTL // so that some lose it
	}
	t := time.NewTimer(keep)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.Done():
	}
	h.to = time.Now()
	if s.Err() != nil {
		h.to = <-ended // the only one: the session is not used again
	}
	k.mu.Lock()
	k.holding = append(k.holding, h)
	k.mu.Unlock()
	leaving, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	m.Unlock(leaving)
}

func (k *locks) guard(ctx context.Context, m *concurrency.Mutex, token concurrency.Token) {
	value := strconv.FormatInt(int64(token), 10)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	res, err := k.r.all.Txn(ctx, kv.Txn{If: []kv.Compare{m.IsOwner()}, Then: []kv.Op{kv.SetOp(k.r.prefix+"guard", []byte(value))}})
	k.r.write(err)
	if err == nil && res.Succeeded {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.guarded[value] = true
	}
}

func (k *locks) check(_ context.Context, rec *record) {
	k.r.histories++
	k.r.held = len(k.holding)
	k.alone()
	last := int64(0)
	seen := map[string]bool{}
	for _, c := range rec.changes {
		for _, e := range c.Events {
			if e.Item.Key != k.r.prefix+"guard" {
				continue
			}
			token, err := strconv.ParseInt(strings.TrimSpace(string(e.Item.Value)), 10, 64)
			if err != nil || token <= last {
				k.r.l.violation("revision %d: a guarded write with token %q after %d", c.Revision, e.Item.Value, last)
			}
			last = token
			seen[string(e.Item.Value)] = true
		}
	}
	for token := range k.guarded {
		if !seen[token] {
			k.r.l.violation("the guarded write with token %s was acknowledged, and is gone", token)
		}
	}
}

// alone checks that holdings do not overlap and that tokens rise.
func (k *locks) alone() {
	for i, a := range k.holding {
		for _, b := range k.holding[i+1:] {
			if b.token < a.token {
				a, b = b, a
			}
			if b.token == a.token || b.from.Before(a.to) {
				k.r.l.violation("token %d held the lock until %v, token %d from %v on", a.token, a.to, b.token, b.from)
			}
		}
	}
}
