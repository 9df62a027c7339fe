package watch

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/replkv/replkv/kv"
)

// BenchmarkWatchFanout measures revisions that go to so many watchers, each of
// which gets all, from Apply to the last delivery.
func BenchmarkWatchFanout(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			w := newWorld(b, Limits{})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var wg, round sync.WaitGroup
			for range watchers {
				wg.Go(func() {
					w.hub.Watch(ctx, w.ctx, all(1), func(kv.Change) bool { round.Done(); return true })
				})
			}
			w.attachedNow(watchers)
			b.ReportAllocs()
			for b.Loop() {
				round.Add(watchers)
				w.set("key", "value")
				round.Wait()
			}
			b.ReportMetric(float64(b.N)*float64(watchers)/b.Elapsed().Seconds(), "deliveries/s")
			cancel()
			wg.Wait()
		})
	}
}
