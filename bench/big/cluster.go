package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/replkv/replkv"
)

// cluster is a few members in this process.
type cluster struct {
	o     *options
	table []replkv.Member
	dbs   []*replkv.DB

	mu    sync.Mutex // protects the fields below
	taken []takenAt  // snapshots taken, on any member
	sent  []replkv.SnapshotEvent
}

type takenAt struct {
	member     int
	began, end time.Time
}

func (o *options) logger() *slog.Logger {
	if !o.logs {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// openCluster opens n members; what change changes of their Config holds for all.
func openCluster(o *options, name string, n int, change func(*replkv.Config)) (*cluster, error) {
	c := &cluster{o: o}
	for i := range n {
		addr, err := freePort()
		if err != nil {
			return nil, err
		}
		c.table = append(c.table, replkv.Member{ID: fmt.Sprint("m", i), Addr: addr})
	}
	return c, c.open(name, change)
}

func (c *cluster) open(name string, change func(*replkv.Config)) error {
	c.dbs = nil
	for i, m := range c.table {
		cfg := c.config(i)
		cfg.Dir, cfg.ID, cfg.Addr, cfg.Listen, cfg.InitialCluster = filepath.Join(c.o.dir, name, m.ID), m.ID, m.Addr, m.Addr, c.table
		if change != nil {
			change(&cfg)
		}
		db, err := replkv.Open(cfg)
		if err != nil {
			return errors.Join(err, c.close())
		}
		c.dbs = append(c.dbs, db)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, db := range c.dbs {
		if err := db.Ready(ctx); err != nil {
			return errors.Join(err, c.close())
		}
	}
	return nil
}

// filled returns three members that hold o.size bytes, open with change.
func (o *options) filled(change func(*replkv.Config)) (*cluster, error) {
	if c := o.three; c != nil {
		if err := c.close(); err != nil {
			return nil, err
		}
		return c, c.open("three", change)
	}
	c, err := openCluster(o, "three", 3, change)
	if err != nil {
		return nil, err
	}
	o.three = c
	if err := fill(c.lead(), o); err != nil {
		return nil, err
	}
	settle(c)
	return c, nil
}

// config notes the events of member i.
func (c *cluster) config(i int) replkv.Config {
	cfg := c.o.config()
	if cfg.Logger != nil {
		cfg.Logger = cfg.Logger.With("member", i)
	}
	cfg.Events.SnapshotTaken = func(e replkv.SnapshotEvent) {
		now := time.Now()
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.Err == nil {
			c.taken = append(c.taken, takenAt{i, now.Add(-e.Duration), now})
		}
	}
	cfg.Events.SnapshotSent = func(e replkv.SnapshotEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = append(c.sent, e)
	}
	return cfg
}

// leader returns which member leads; it waits for one.
func (c *cluster) leader() int {
	for {
		for i, db := range c.dbs {
			if db.Status().Role == "leader" {
				return i
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *cluster) lead() *replkv.DB { return c.dbs[c.leader()] }

func (c *cluster) close() error {
	var errs []error
	for _, db := range c.dbs {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

func (c *cluster) snapshots() ([]takenAt, []replkv.SnapshotEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]takenAt{}, c.taken...), append([]replkv.SnapshotEvent{}, c.sent...)
}
