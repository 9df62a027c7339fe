package main

import (
	"errors"
	"net"
	"path/filepath"

	"github.com/replkv/replkv"
)

const size = 3

// cluster is three members that would, in earnest, live on three machines.
type cluster struct {
	dir   string
	table []replkv.Member
	dbs   [size]*replkv.DB // nil: killed
}

// startCluster opens all members. Ports are the system's choice, so listeners
// come first: the table of members needs their addresses.
func startCluster(dir string) (*cluster, error) {
	c := &cluster{dir: dir}
	var listeners [size]net.Listener
	for i := range size {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners[i] = l
		c.table = append(c.table, replkv.Member{ID: string(rune('a' + i)), Addr: l.Addr().String()})
	}
	for i, l := range listeners {
		if err := c.open(i, l); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// open opens member i, which owns the listener from then on.
func (c *cluster) open(i int, l net.Listener) (err error) {
	c.dbs[i], err = replkv.Open(replkv.Config{
		Dir:            filepath.Join(c.dir, c.table[i].ID),
		ID:             c.table[i].ID,
		Addr:           c.table[i].Addr,
		Listener:       l,
		InitialCluster: c.table,
		InsecurePeers:  true, // loopback; in earnest: PeerTLS
	})
	return err
}

// kill stops a member without a word to the others, as a crash would.
func (c *cluster) kill(i int) error {
	db := c.dbs[i]
	c.dbs[i] = nil
	return db.Close()
}

// revive opens a killed member again, on its old directory and address.
func (c *cluster) revive(i int) error {
	l, err := net.Listen("tcp", c.table[i].Addr)
	if err != nil {
		return err
	}
	return c.open(i, l)
}

func (c *cluster) close() error {
	var errs []error
	for _, db := range c.dbs {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// leader returns the index of the member that leads, as member i sees it.
func (c *cluster) leader(i int) int {
	id := c.dbs[i].Status().LeaderID
	for j, m := range c.table {
		if m.ID == id {
			return j
		}
	}
	return -1
}
