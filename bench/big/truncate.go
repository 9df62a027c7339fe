package main

import "time"

// truncate measures the snapshots that the log's growth triggers under load.
func truncate(o *options) error {
	c, err := o.filled(nil)
	if err != nil {
		return err
	}
	leader := c.leader()
	l := setLoad(c.dbs[leader], o)
	l.during(o.window / 3) // warm up
	began := time.Now()
	samples := l.during(o.window)
	if err := l.end(); err != nil {
		return err
	}
	taken, _ := c.snapshots()
	var durations []time.Duration
	in := map[int]bool{} // windows in which the leader took one
	for _, t := range taken {
		if t.member != leader || t.began.Before(began) {
			continue
		}
		durations = append(durations, t.end.Sub(t.began))
		for w := t.began.Sub(began) / windowLength; w <= t.end.Sub(began)/windowLength; w++ {
			in[int(w)] = true
		}
	}
	var with, without []sample
	for _, s := range samples {
		if in[int(s.began.Add(s.took).Sub(began)/windowLength)] {
			with = append(with, s)
		} else {
			without = append(without, s)
		}
	}
	longest := time.Duration(0)
	for _, d := range durations {
		longest = max(longest, d)
	}
	result("truncate", "%d snapshots on the leader: median %.0f ms, longest %.0f ms (bar 200 ms)", len(durations), ms(median(durations)), ms(longest))
	result("truncate", "Set by %d callers: %.0f/s, p50 %.1f ms; p99 in windows of %v with one %.1f ms, without %.1f ms: %.2fx (bar 2x)",
		o.callers, float64(len(samples))/o.window.Seconds(), ms(quantile(samples, 50)), windowLength,
		ms(quantile(with, 99)), ms(quantile(without, 99)), float64(quantile(with, 99))/float64(quantile(without, 99)))
	return nil
}

// windowLength: longer than a snapshot with its aftermath, shorter than the
// time between two.
const windowLength = 500 * time.Millisecond

// settle waits until the states on disk do not change: compactions are over.
func settle(c *cluster) {
	for last, quiet := int64(0), 0; quiet < 6; {
		time.Sleep(500 * time.Millisecond)
		sum := int64(0)
		for _, db := range c.dbs {
			sum += db.Status().StateBytes
		}
		if quiet++; sum != last {
			quiet = 0
		}
		last = sum
	}
}
