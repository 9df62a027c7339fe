package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/bench/system"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/kv"
)

// cluster is three handles, the leader first.
type cluster struct {
	dbs     []*replkv.DB
	rounds  []*readRounds // of the members in dbs
	servers []*grpc.Server
	clients []*client.Client
}

func open(dir string) (system.System, error) {
	c := &cluster{}
	if err := c.open(dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *cluster) open(dir string) error {
	var table []replkv.Member
	var listeners []net.Listener
	for i := range system.Members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		table = append(table, replkv.Member{ID: fmt.Sprint("m", i), Addr: l.Addr().String()})
	}
	for i, m := range table {
		rounds := &readRounds{}
		db, err := replkv.Open(replkv.Config{Dir: system.MemberDir(dir, i), ID: m.ID, Addr: m.Addr, Listener: listeners[i],
			InitialCluster: table, InsecurePeers: true, PeerDialOptions: []grpc.DialOption{rounds.option()}})
		if err != nil {
			return err
		}
		c.dbs, c.rounds = append(c.dbs, db), append(c.rounds, rounds)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, db := range c.dbs {
		if err := db.Ready(ctx); err != nil {
			return err
		}
	}
	for i, db := range c.dbs {
		if db.Status().Role == "leader" {
			c.dbs[0], c.dbs[i] = c.dbs[i], c.dbs[0]
			c.rounds[0], c.rounds[i] = c.rounds[i], c.rounds[0]
			return nil
		}
	}
	return errors.New("no member leads")
}

func (c *cluster) Set(ctx context.Context, key string, value []byte) error {
	_, err := c.dbs[0].Set(ctx, key, value)
	return err
}

func (c *cluster) Get(ctx context.Context, key string) ([]byte, error) { return c.GetAny(ctx, 0, key) }

func (c *cluster) GetAny(ctx context.Context, member int, key string) ([]byte, error) {
	item, err := c.dbs[member].Get(ctx, key)
	return item.Value, err
}

func (c *cluster) Readers() int  { return len(c.dbs) }
func (c *cluster) Majority() int { return len(c.dbs)/2 + 1 }

func (c *cluster) Close() error {
	var errs []error
	for _, cl := range c.clients {
		errs = append(errs, cl.Close())
	}
	for _, db := range c.dbs {
		errs = append(errs, db.Close())
	}
	for _, s := range c.servers {
		s.Stop()
	}
	return errors.Join(errs...)
}

// Remote mounts the client service of each member on a gRPC server of the
// application, and dials them all, the leader first.
func (c *cluster) Remote() (system.KV, error) {
	var endpoints []string
	for _, db := range c.dbs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		srv := grpc.NewServer()
		if err := db.RegisterClient(srv); err != nil {
			return nil, err
		}
		go srv.Serve(l) // until Stop, which closes l
		c.servers = append(c.servers, srv)
		endpoints = append(endpoints, l.Addr().String())
	}
	cl, err := client.Dial(client.Config{Endpoints: endpoints, Insecure: true})
	if err != nil {
		return nil, err
	}
	c.clients = append(c.clients, cl)
	return remote{cl}, nil
}

// remote is any kv.KV.
type remote struct{ kv kv.KV }

func (r remote) Set(ctx context.Context, key string, value []byte) error {
	_, err := r.kv.Set(ctx, key, value)
	return err
}

func (r remote) Get(ctx context.Context, key string) ([]byte, error) {
	item, err := r.kv.Get(ctx, key)
	return item.Value, err
}
