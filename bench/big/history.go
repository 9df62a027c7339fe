package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
)

// versions is how often each key is written before its history is compacted.
const versions = 11

// history measures how long the removal of superseded versions takes, and what a load
// notices of it. With -size 100MB and values of 1000 bytes it removes a million.
func history(o *options) error {
	c, err := openCluster(o, "history", 3, func(cfg *replkv.Config) { cfg.HistoryAge = -1 })
	if err != nil {
		return err
	}
	defer c.close()
	db := c.dbs[c.leader()]
	var next atomic.Int64
	if err := callers(512, func(rng *rand.Rand) (bool, error) {
		i := int(next.Add(1)) - 1
		if i >= o.keys()*versions {
			return false, nil
		}
		_, err := db.Set(context.Background(), key(i%o.keys()), value(rng, o.value))
		return true, err
	}); err != nil {
		return err
	}
	settle(c)
	before := db.Status().StateBytes
	l := setLoad(db, o)
	l.during(o.window / 3) // warm up
	without := l.during(o.window)
	began, rev := time.Now(), db.Status().Revision
	if err := db.Compact(context.Background(), rev); err != nil {
		return err
	}
	var with []sample
	for c.swept() < rev {
		with = append(with, l.during(windowLength)...)
	}
	took := time.Since(began)
	if err := l.end(); err != nil {
		return err
	}
	settle(c)
	result("history", "%d versions of %d bytes removed by all three in %.1f s; the leader's state: %d MB before, %d MB after",
		o.keys()*(versions-1), o.value, took.Seconds(), before/1e6, db.Status().StateBytes/1e6)
	result("history", "Set by %d callers: p50 %.1f ms and p99 %.1f ms before, %.1f and %.1f meanwhile: p99 %.2fx", o.callers,
		ms(quantile(without, 50)), ms(quantile(without, 99)), ms(quantile(with, 50)), ms(quantile(with, 99)),
		float64(quantile(with, 99))/float64(quantile(without, 99)))
	return nil
}

// swept is how far all members have come.
func (c *cluster) swept() replkv.Revision {
	least := c.dbs[0].Status().SweptRevision
	for _, db := range c.dbs {
		least = min(least, db.Status().SweptRevision)
	}
	return least
}
