package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/replkv/replkv"
)

// feed measures how fast a new member gets the state, without a limit on an
// idle cluster, and what it costs the writers with the limit.
func feed(o *options) error {
	c, err := o.filled(unlimited)
	if err != nil {
		return err
	}
	f, err := c.join("idle")
	if err != nil {
		return err
	}
	e := f.event
	result("feed", "idle, unlimited: %.2f GB, %.0f MB/s from the first to the last byte (bar 150), %.0f MB/s until installed",
		float64(e.Bytes)/1e9, f.wire.rate(), float64(e.Bytes)/1e6/e.Duration.Seconds())
	if err := f.leave(c); err != nil {
		return err
	}
	if c, err = o.filled(func(cfg *replkv.Config) { cfg.SnapshotRateBytes = int64(o.rate) }); err != nil {
		return err
	}
	l := setLoad(c.lead(), o)
	l.during(o.window / 3)
	before := l.during(o.window)
	f, err = c.join("loaded")
	if err != nil {
		return err
	}
	all := l.take()
	var during []sample
	for _, s := range all {
		if f.wire.covers(s) {
			during = append(during, s)
		}
	}
	e = f.event
	after := l.during(o.window / 2)
	if err := l.end(); err != nil {
		return err
	}
	result("feed", "loaded, rate %d: %.2f GB, %.0f MB/s; Set by %d callers before: %.0f/s, p50 %.1f, p99 %.1f ms; during: %.0f/s, p50 %.1f, p99 %.1f ms: %.2fx (bar 3x); after: p99 %.1f ms",
		int64(o.rate), float64(e.Bytes)/1e9, f.wire.rate(), o.callers, float64(len(before))/o.window.Seconds(), ms(quantile(before, 50)), ms(quantile(before, 99)),
		float64(len(during))/f.wire.last.Sub(f.wire.first).Seconds(), ms(quantile(during, 50)), ms(quantile(during, 99)),
		float64(quantile(during, 99))/float64(quantile(before, 99)), ms(quantile(after, 99)))
	return f.leave(c)
}

func unlimited(cfg *replkv.Config) { cfg.SnapshotRateBytes = -1 }

// fed is a member that joined.
type fed struct {
	db    *replkv.DB
	id    string
	dir   string
	wire  *wire
	event replkv.SnapshotEvent
}

// join adds a member, and returns once it has the state and is a voter.
func (c *cluster) join(id string) (*fed, error) {
	f := &fed{id: id, dir: filepath.Join(c.o.dir, "joiner-"+id)}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.wire = &wire{Listener: inner}
	cfg := c.config(-1)
	cfg.Dir, cfg.ID, cfg.Addr, cfg.Listener = f.dir, id, inner.Addr().String(), f.wire
	for _, m := range c.table {
		cfg.Join = append(cfg.Join, m.Addr)
	}
	_, sent := c.snapshots()
	began := time.Now()
	if f.db, err = replkv.Open(cfg); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := f.db.Ready(ctx); err != nil {
		return nil, err
	}
	for {
		m, err := c.lead().Members(ctx)
		if err != nil {
			return nil, err
		}
		if row, ok := m.Find(id); ok && !row.Nonvoter {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, now := c.snapshots()
	streams := now[len(sent):]
	for _, e := range streams {
		if e.Err == nil {
			f.event = e
		}
	}
	result("feed", "%s is a voter after %.1f s and %d streams", id, time.Since(began).Seconds(), len(streams))
	if f.event.Bytes == 0 {
		return nil, fmt.Errorf("no snapshot was sent: %v", streams)
	}
	return f, nil
}

func (f *fed) leave(c *cluster) error {
	if _, err := c.lead().Remove(context.Background(), f.id); err != nil {
		return err
	}
	return errors.Join(f.db.Close(), os.RemoveAll(f.dir))
}

// wire notes when the bulk of the bytes came.
type wire struct {
	net.Listener
	mu          sync.Mutex // protects the fields below
	first, last time.Time
	bytes       int64
}

func (w *wire) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	return &wireConn{Conn: conn, w: w}, err
}

// wireConn counts as bulk once it carried more than raft's log would at first.
type wireConn struct {
	net.Conn
	w     *wire
	n     int64
	began time.Time
}

const bulk = 64 << 20

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	now := time.Now()
	if c.n == 0 || n > 1000 && c.n < 100_000 {
		c.began = now
	}
	c.n += int64(n)
	if c.n > bulk && n > 1000 {
		c.w.mu.Lock()
		if c.w.first.IsZero() {
			c.w.first = c.began
		}
		if c.w.first == c.began {
			c.w.last, c.w.bytes = now, c.n
		}
		c.w.mu.Unlock()
	}
	return n, err
}

// rate in MB/s.
func (w *wire) rate() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(w.bytes) / 1e6 / w.last.Sub(w.first).Seconds()
}

func (w *wire) covers(s sample) bool {
	return s.began.Add(s.took).After(w.first) && s.began.Before(w.last)
}
