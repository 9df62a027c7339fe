package replkv_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replkv/replkv"
)

// benchCluster opens three members in this process on real TCP and disk, and
// returns them with the leader first.
func benchCluster(b *testing.B) []*replkv.DB {
	var table []replkv.Member
	var listeners []net.Listener
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners = append(listeners, l)
		table = append(table, replkv.Member{ID: fmt.Sprint("m", i), Addr: l.Addr().String()})
	}
	var dbs []*replkv.DB
	for i, m := range table {
		db, err := replkv.Open(replkv.Config{Dir: b.TempDir(), ID: m.ID, Addr: m.Addr, Listener: listeners[i],
			InitialCluster: table, InsecurePeers: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { db.Close() })
		dbs = append(dbs, db)
	}
	for _, db := range dbs {
		if err := db.Ready(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for i, db := range dbs {
		if db.Status().Role == "leader" {
			dbs[0], dbs[i] = dbs[i], dbs[0]
		}
	}
	return dbs
}

// closedLoop runs n operations by that many callers, and reports ops/s and
// latencies.
func closedLoop(b *testing.B, callers int, op func(rng *rand.Rand) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	lat := make([]time.Duration, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 1))
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				at := time.Now()
				if err := op(rng); err != nil {
					b.Error(err)
					return
				}
				lat[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	reportLatencies(b, lat)
}

func BenchmarkSet(b *testing.B) {
	value := make([]byte, 256)
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			dbs := benchCluster(b)
			closedLoop(b, callers, func(rng *rand.Rand) error {
				_, err := dbs[0].Set(b.Context(), fmt.Sprintf("key-%012d", rng.IntN(100_000)), value)
				return err
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, where := range []string{"leader", "follower"} {
		for _, callers := range []int{64, 512} {
			b.Run(fmt.Sprintf("%s/callers=%d", where, callers), func(b *testing.B) {
				dbs := benchCluster(b)
				for i := range 1000 {
					if _, err := dbs[0].Set(b.Context(), fmt.Sprintf("key-%012d", i), make([]byte, 256)); err != nil {
						b.Fatal(err)
					}
				}
				db := dbs[0]
				if where == "follower" {
					db = dbs[1]
				}
				closedLoop(b, callers, func(rng *rand.Rand) error {
					_, err := db.Get(b.Context(), fmt.Sprintf("key-%012d", rng.IntN(1000)))
					return err
				})
			})
		}
	}
}
func reportLatencies(b *testing.B, lat []time.Duration) {
	slices.Sort(lat)
	at := func(p int) float64 { return float64(lat[len(lat)*p/100].Microseconds()) }
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(at(50), "p50-us")
	b.ReportMetric(at(99), "p99-us")
}

// BenchmarkUpdate reads and writes one key. keys=1: all meet on it; a run in vain is
// not counted as an operation.
func BenchmarkUpdate(b *testing.B) {
	for _, c := range []struct{ callers, keys int }{{1, 1}, {64, 100_000}, {512, 100_000}, {8, 1}, {64, 1}, {64, 64}} {
		b.Run(fmt.Sprintf("callers=%d/keys=%d", c.callers, c.keys), func(b *testing.B) {
			db := benchCluster(b)[0]
			value := make([]byte, 256)
			before := db.Metrics().TxnConflicts
			closedLoop(b, c.callers, func(rng *rand.Rand) error {
				key := fmt.Sprintf("key-%012d", rng.IntN(c.keys))
				_, err := db.Update(b.Context(), func(tx *replkv.Tx) error {
					if _, err := tx.Get(key); err != nil && !errors.Is(err, replkv.ErrNotFound) {
						return err
					}
					return tx.Set(key, value)
				})
				return err
			})
			b.ReportMetric(float64(db.Metrics().TxnConflicts-before)/float64(b.N), "conflicts/op")
		})
	}
}

// BenchmarkTxn compares and sets one key.
func BenchmarkTxn(b *testing.B) {
	for _, callers := range []int{64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := benchCluster(b)[0]
			value := make([]byte, 256)
			closedLoop(b, callers, func(rng *rand.Rand) error {
				key := fmt.Sprintf("key-%012d", rng.IntN(100_000))
				_, err := db.Txn(b.Context(), replkv.Txn{If: []replkv.Compare{replkv.Exists(key)}, Then: []replkv.Op{replkv.SetOp(key, value)}, Else: []replkv.Op{replkv.SetOp(key, value)}})
				return err
			})
		})
	}
}
