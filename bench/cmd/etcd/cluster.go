package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/replkv/replkv/bench/system"
)

// cluster is three servers, the leader first.
type cluster struct {
	servers []*embed.Etcd
	local   []*clientv3.Client // of each, in this process
	remote  []*clientv3.Client
}

func open(dir string) (system.System, error) {
	c := &cluster{}
	if err := c.open(dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *cluster) open(dir string) error {
	addrs, err := system.FreeAddrs(2 * system.Members)
	if err != nil {
		return err
	}
	peers, clients := urls(addrs[:system.Members]), urls(addrs[system.Members:])
	var table []string
	for i, u := range peers {
		table = append(table, fmt.Sprintf("m%d=%s", i, u.String()))
	}
	for i := range peers {
		e, err := embed.StartEtcd(config(system.MemberDir(dir, i), fmt.Sprint("m", i), strings.Join(table, ","), peers[i], clients[i]))
		if err != nil {
			return err
		}
		c.servers = append(c.servers, e)
	}
	for _, e := range c.servers {
		select {
		case <-e.Server.ReadyNotify():
		case err := <-e.Err():
			return err
		case <-time.After(30 * time.Second):
			return errors.New("not ready after 30 s")
		}
	}
	for i, e := range c.servers {
		if e.Server.Leader() == e.Server.MemberID() {
			c.servers[0], c.servers[i] = e, c.servers[0]
		}
	}
	for _, e := range c.servers {
		c.local = append(c.local, v3client.New(e.Server))
	}
	if e := c.servers[0].Server; e.Leader() != e.MemberID() {
		return errors.New("no member leads")
	}
	return nil
}

// config is etcd's own but for addresses and its log.
func config(dir, name, table string, peer, client url.URL) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name, cfg.InitialCluster = dir, name, table
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.LogLevel = "error"
	return cfg
}

func urls(addrs []string) []url.URL {
	var out []url.URL
	for _, a := range addrs {
		out = append(out, url.URL{Scheme: "http", Host: a})
	}
	return out
}

func (c *cluster) Set(ctx context.Context, key string, value []byte) error {
	return kv{c.local[0]}.Set(ctx, key, value)
}

func (c *cluster) Get(ctx context.Context, key string) ([]byte, error) { return c.GetAny(ctx, 0, key) }

func (c *cluster) GetAny(ctx context.Context, member int, key string) ([]byte, error) {
	return kv{c.local[member]}.Get(ctx, key)
}

func (c *cluster) Readers() int  { return len(c.servers) }
func (c *cluster) Majority() int { return len(c.servers)/2 + 1 }

// Remote dials the leader alone: with all endpoints the client takes them in
// turns, and two thirds of the writes cost a hop more.
func (c *cluster) Remote() (system.KV, error) {
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{c.servers[0].Config().AdvertiseClientUrls[0].Host},
		DialTimeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	c.remote = append(c.remote, cl)
	return kv{cl}, nil
}

func (c *cluster) Close() error {
	for _, cl := range append(c.remote, c.local...) {
		_ = cl.Close() // those in the process answer with the ctx they cancel
	}
	for _, e := range c.servers {
		e.Close()
	}
	return nil
}

// kv is a client of either kind. Get is linearizable, as is the default.
type kv struct{ c *clientv3.Client }

func (k kv) Set(ctx context.Context, key string, value []byte) error {
	_, err := k.c.Put(ctx, key, string(value))
	return err
}

func (k kv) Get(ctx context.Context, key string) ([]byte, error) {
	res, err := k.c.Get(ctx, key)
	if err != nil || len(res.Kvs) == 0 {
		return nil, err
	}
	return res.Kvs[0].Value, nil
}
