//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/replkv/replkv/kv"
)

// sequences is keys that are written once each: those acknowledged must be there,
// those that were not done must not. Some outlive the round.
type sequences struct {
	r *round

	mu    sync.Mutex // protects the fields below
	fates map[string]kv.Outcome
}

func newSequences(r *round) *sequences { return &sequences{r: r, fates: map[string]kv.Outcome{}} }

// keepEvery is how many keys come to one that outlives the round.
const keepEvery = 50

func (s *sequences) work(ctx context.Context, rng *rand.Rand, worker int) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%sseq/%d/%06d", s.r.prefix, worker, n)
		if n%keepEvery == 0 {
			key = "keep/" + key
		}
		wctx, cancel := someTime(ctx, rng)
		// Some of a few kB: logs and snapshots are to have something to do.
		_, err := s.r.anyKV(rng).Set(wctx, key, make([]byte, rng.IntN(2)*rng.IntN(8192)), kv.IfAbsent())
		cancel()
		s.r.write(err)
		s.mu.Lock()
		s.fates[key] = kv.OutcomeOf(err)
		s.mu.Unlock()
		pause4(ctx, rng)
	}
}

func (s *sequences) check(ctx context.Context, rec *record) {
	s.r.histories++
	var keep []kv.Item
	for item, err := range s.r.all.Scan(ctx, kv.Prefix("keep/"+s.r.prefix)) {
		if err != nil {
			s.r.l.violation("scan of keep/%s: %v", s.r.prefix, err)
			return
		}
		keep = append(keep, item)
	}
	s.judge(rec, keep)
}

// judge looks at what was recorded, and at the keys that outlive the round, which the
// record has not.
func (s *sequences) judge(rec *record, keep []kv.Item) {
	there := map[string]bool{}
	for _, c := range rec.changes {
		for _, e := range c.Events {
			if there[e.Item.Key] && strings.HasPrefix(e.Item.Key, s.r.prefix+"seq/") {
				s.r.l.violation("%s was written twice", e.Item.Key)
			}
			there[e.Item.Key] = true
		}
	}
	for _, item := range keep {
		if item.Version != 1 {
			s.r.l.violation("%s was written twice, it has version %d", item.Key, item.Version)
		}
		there[item.Key] = true
	}
	for key, fate := range s.fates {
		switch {
		case fate == kv.OutcomeDone && !there[key]:
			s.r.l.violation("%s was acknowledged, and is lost", key)
		case fate == kv.OutcomeNotDone && there[key]:
			s.r.l.violation("%s was not done, and is there", key)
		}
	}
}

// kept returns the acknowledged keys that outlive the round.
func (s *sequences) kept() (keys []string) {
	for key, fate := range s.fates {
		if fate == kv.OutcomeDone && key[0] == 'k' {
			keys = append(keys, key)
		}
	}
	return keys
}
