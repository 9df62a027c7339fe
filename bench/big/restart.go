package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// restart measures how long a follower takes until Ready, after Close and after
// SIGKILL, each with nearly as much log to replay as there can be, while the
// others are under load.
func restart(o *options) (err error) {
	c, err := o.filled(nil)
	if err != nil {
		return err
	}
	if err := c.close(); err != nil {
		return err
	}
	var members []*process
	var table []string
	for _, m := range c.table {
		table = append(table, m.ID+"="+m.Addr)
	}
	defer func() {
		for _, p := range members {
			p.kill()
		}
	}()
	type outcome struct {
		r   ready
		err error
	}
	started := make(chan outcome, len(table))
	for i := range table {
		p := &process{o: o, id: fmt.Sprint("m", i), table: strings.Join(table, ",")}
		members = append(members, p)
		go func() {
			r, err := p.start()
			started <- outcome{r, err}
		}()
	}
	for range members {
		if s := <-started; s.err != nil {
			return s.err
		}
	}
	var leader, other *process
	for leader == nil {
		for _, p := range members {
			if role, err := p.ask("role"); err != nil {
				return err
			} else if role == "leader" {
				leader = p
			} else {
				other = p
			}
		}
	}
	if _, err := leader.ask("load"); err != nil {
		return err
	}
	for _, way := range []string{"Close", "SIGKILL"} {
		var total, opened []time.Duration
		var logs, replayed []int64
		for range o.kills {
			n, err := other.waitLog(56 << 20)
			if err != nil {
				return err
			}
			if way == "Close" {
				err = other.closed()
			} else {
				other.kill()
			}
			if err != nil {
				return err
			}
			time.Sleep(o.down)
			r, err := other.start()
			if err != nil {
				return err
			}
			total, opened = append(total, r.total), append(opened, r.opened)
			logs, replayed = append(logs, n>>20), append(replayed, r.applied>>20)
		}
		bar := map[string]string{"Close": "3 s", "SIGKILL": "5 s"}[way]
		longest := time.Duration(0)
		for _, t := range total {
			longest = max(longest, t)
		}
		result("restart", "%s under load of %d callers, down for %v, %v MiB of log since the snapshot: Ready after %.0f ms in the median, %.0f at most (bar %s), of it Open %.0f ms; %v MiB applied meanwhile",
			way, o.callers, o.down, logs, ms(median(total)), ms(longest), bar, ms(median(opened)), replayed)
	}
	_, err = leader.ask("stop")
	return err
}

// waitLog waits until the log since the last snapshot is at least n bytes.
func (p *process) waitLog(n int64) (int64, error) {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s, err := p.ask("log")
		if err != nil {
			return 0, err
		}
		if got, err := strconv.ParseInt(s, 10, 64); err != nil || got >= n {
			return got, err
		}
	}
	return 0, fmt.Errorf("the log of %s does not grow", p.id)
}
