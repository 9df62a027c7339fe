package replkv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

const quotaBytes = 2 << 20

// quotas is a cluster with a small quota, whose snapshots come often: they write to
// files what is in memory.
type quotas struct {
	*replkvtest.Cluster
	t       *testing.T
	value   []byte // does not compress
	n       int    // keys written
	passed  int    // calls that should have been refused, and will be the next time
	changes atomic.Int64
}

func newQuotas(t *testing.T) *quotas {
	q := &quotas{t: t, value: make([]byte, 20_000)}
	rand.NewChaCha8([32]byte{}).Read(q.value)
	q.Cluster = replkvtest.NewCluster(t, 3, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) {
		cfg.QuotaBytes = quotaBytes
		cfg.SnapshotLogBytes, cfg.TrailingLogBytes = 128<<10, 64<<10
		cfg.Events.QuotaExceeded = func(e replkv.QuotaEvent) {
			q.changes.Add(1)
			if e.QuotaBytes != quotaBytes || e.StateBytes == 0 {
				t.Errorf("event %+v", e)
			}
		}
	}))
	return q
}

// put writes another large value.
func (q *quotas) put(to kv.KV) error {
	q.n++
	rand.NewChaCha8([32]byte{byte(q.n), byte(q.n >> 8)}).Read(q.value)
	_, err := to.Set(q.t.Context(), fmt.Sprintf("fill/%05d", q.n), q.value)
	return err
}

// fill writes until it is refused, which must be after about the quota, with what
// memory and the second between two looks hold.
func (q *quotas) fill(to kv.KV) {
	q.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		err := q.put(to)
		if errors.Is(err, replkv.ErrQuota) {
			break
		}
		if err != nil || time.Now().After(end) {
			q.t.Fatalf("after %d writes: %v", q.n, err)
		}
	}
	if q.n < quotaBytes*3/4/len(q.value) {
		q.t.Fatalf("refused after %d writes already", q.n)
	}
}

// until waits for a condition.
func (q *quotas) until(what string, ok func() bool) {
	q.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			for i := range q.Len() {
				q.t.Logf("%d: %+v", i, q.DB(i).Status())
			}
			q.t.Fatalf("waited in vain for %s", what)
		}
		<-tick.C
	}
}

// refused checks that a call is refused for the quota. On a machine so slow that a
// follower hears nothing for seconds, it may try again to hear.
func (q *quotas) refused(what string, call func() error) {
	q.t.Helper()
	err := call()
	for tries := 0; err == nil && tries < 3; tries++ {
		q.passed++
		q.allExceeded(true)
		err = call()
	}
	if !errors.Is(err, replkv.ErrQuota) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
		q.t.Errorf("%s: %v, outcome %v", what, err, replkv.OutcomeOf(err))
	}
}

func (q *quotas) allExceeded(want bool) {
	q.t.Helper()
	q.until(fmt.Sprintf("QuotaExceeded to be %v on all", want), func() bool {
		for i := range q.Len() {
			// A follower hears it with the next answer.
			if err := q.DB(i).Ready(q.t.Context()); err != nil || q.DB(i).Status().QuotaExceeded != want {
				return false
			}
		}
		return true
	})
}

// TestQuota: over the quota all members, and clients of each, refuse what makes the
// state grow, and nothing else; also after a change of leader. When enough is deleted
// and compacted, writes work again by themselves.
func TestQuota(t *testing.T) {
	ctx := t.Context()
	q := newQuotas(t)
	_, addrs := fronts(t, q.Cluster)
	var stores []kv.KV
	var lessors []kv.Lessor
	for i := range q.Len() {
		cl, err := client.Dial(client.Config{Endpoints: addrs[i : i+1], Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		stores, lessors = append(stores, q.DB(i), cl), append(lessors, q.DB(i), cl)
	}
	lease, err := q.DB(0).Grant(ctx, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if _, err := q.DB(0).Set(ctx, fmt.Sprintf("small/%d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	q.fill(stores[2*((q.Leader()+1)%3)]) // a follower
	q.allExceeded(true)

	before, err := q.DB(0).Revision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	grow := func() {
		t.Helper()
		for i, s := range stores {
			q.refused(fmt.Sprintf("Set %d", i), func() error { return q.put(s) })
			q.refused(fmt.Sprintf("Txn %d", i), func() error {
				_, err := s.Txn(ctx, kv.Txn{If: []kv.Compare{kv.Exists("small/0")}, Then: []kv.Op{kv.DeleteOp(kv.Key("nothing"))},
					Else: []kv.Op{kv.TxnOp(kv.Txn{Then: []kv.Op{kv.SetOp("x", nil)}})}})
				return err
			})
			q.refused(fmt.Sprintf("Update %d", i), func() error {
				_, err := s.Update(ctx, func(tx *kv.Tx) error { return tx.Set("x", nil) })
				return err
			})
			q.refused(fmt.Sprintf("Grant %d", i), func() error {
				_, err := lessors[i].Grant(ctx, time.Hour)
				return err
			})
		}
	}
	grow()
	if after, err := q.DB(0).Revision(ctx); err != nil || after != before && q.passed == 0 {
		t.Errorf("revision %d after what was refused, %d before, %v", after, before, err)
	}
	for i, s := range stores {
		res, err := s.Txn(ctx, kv.Txn{If: []kv.Compare{kv.Exists(fmt.Sprintf("small/%d", i))}, Then: []kv.Op{kv.DeleteOp(kv.Key(fmt.Sprintf("small/%d", i)))}})
		if err != nil || !res.Succeeded {
			t.Errorf("a Txn that deletes, %d: %+v, %v", i, res, err)
		}
		if _, err := s.Update(ctx, func(tx *kv.Tx) error { return tx.Delete("small/7") }); err != nil {
			t.Errorf("an Update that deletes, %d: %v", i, err)
		}
		if res, err := s.Delete(ctx, fmt.Sprintf("fill/%05d", i+1)); err != nil || res.Deleted != 1 {
			t.Errorf("Delete %d: %+v, %v", i, res, err)
		}
		if _, err := lessors[i].KeepAliveOnce(ctx, lease); err != nil {
			t.Errorf("KeepAliveOnce %d: %v", i, err)
		}
		if _, err := s.Get(ctx, "small/6"); err != nil {
			t.Errorf("Get %d: %v", i, err)
		}
	}
	if err := lessors[1].Revoke(ctx, lease); err != nil {
		t.Errorf("Revoke: %v", err)
	}

	old := q.Leader()
	if err := q.DB(old).TransferLeadership(ctx, ""); err != nil {
		t.Fatal(err)
	}
	q.until("another leader", func() bool { return q.Leader() != old })
	q.fill(stores[2*q.Leader()]) // the new leader's state may be smaller
	q.allExceeded(true)
	grow()

	q.empty(stores[1])
	q.allExceeded(false)
	for i, s := range stores {
		if err := q.put(s); err != nil {
			t.Errorf("Set %d, when there is room again: %v", i, err)
		}
	}
	q.until("the events of three members, that it begins and ends", func() bool { return q.changes.Load() >= 6 })
}

// empty deletes what fill has written, and its history.
func (q *quotas) empty(by kv.KV) {
	q.t.Helper()
	res, err := by.DeleteRange(q.t.Context(), kv.Prefix("fill/"))
	if err != nil {
		q.t.Fatal(err)
	}
	if err := q.DB(0).Compact(q.t.Context(), res.Revision); err != nil {
		q.t.Fatal(err)
	}
}

// TestQuotaWithoutLeader: a follower that was told of the quota and then loses its
// leader says that there is no leader.
func TestQuotaWithoutLeader(t *testing.T) {
	q := newQuotas(t)
	lead := q.Leader()
	q.fill(q.DB(lead))
	q.allExceeded(true)
	cut := (q.Leader() + 1) % 3
	q.Partition([]int{(cut + 1) % 3, (cut + 2) % 3})
	q.until("the leader's word to end", func() bool { return !q.DB(cut).Status().QuotaExceeded })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := q.DB(cut).Set(ctx, "k", nil)
	if errors.Is(err, replkv.ErrQuota) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Set without a leader: %v", err)
	}
	q.Heal()
	q.allExceeded(true)
}
