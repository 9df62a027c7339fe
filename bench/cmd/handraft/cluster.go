package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	transport "github.com/Jille/raft-grpc-transport"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replkv/replkv/bench/system"
)

// applyTimeout bounds how long a write waits to be taken, as in raft's examples.
const applyTimeout = 10 * time.Second

// cluster is three members, the leader first.
type cluster struct {
	members []*member
}

type member struct {
	raft   *raft.Raft
	state  *state
	server *grpc.Server
	close  []io.Closer
}

func open(dir string) (system.System, error) {
	c := &cluster{}
	if err := c.open(dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *cluster) open(dir string) error {
	var table raft.Configuration
	var listeners []net.Listener
	for i := range system.Members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		table.Servers = append(table.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint("m", i)), Address: raft.ServerAddress(l.Addr().String())})
	}
	for i, l := range listeners {
		m, err := openMember(system.MemberDir(dir, i), table.Servers[i], l)
		if err != nil {
			return err
		}
		c.members = append(c.members, m)
	}
	if err := c.members[0].raft.BootstrapCluster(table).Error(); err != nil {
		return err
	}
	return c.leaderFirst()
}

func openMember(dir string, self raft.Server, l net.Listener) (*member, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		return nil, err
	}
	snapshots, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	tm := transport.New(self.Address, []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())})
	m := &member{state: newState(), server: grpc.NewServer(), close: []io.Closer{tm, log}}
	tm.Register(m.server)
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.LogLevel = self.ID, "ERROR"
	if m.raft, err = raft.NewRaft(cfg, m.state, log, log, snapshots, tm.Transport()); err != nil {
		return nil, errors.Join(err, tm.Close(), log.Close())
	}
	go m.server.Serve(l) // until Stop, which closes l
	return m, nil
}

func (c *cluster) leaderFirst() error {
	for range 300 {
		for i, m := range c.members {
			if m.raft.State() == raft.Leader {
				c.members[0], c.members[i] = m, c.members[0]
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("no member leads")
}

func (c *cluster) Set(_ context.Context, key string, value []byte) error {
	return c.members[0].raft.Apply(encode(key, value), applyTimeout).Error()
}

// Get asks the leader whether it still is one, and reads its map.
func (c *cluster) Get(_ context.Context, key string) ([]byte, error) {
	m := c.members[0]
	if err := m.raft.VerifyLeader().Error(); err != nil {
		return nil, err
	}
	return m.state.get(key), nil
}

func (c *cluster) GetAny(ctx context.Context, _ int, key string) ([]byte, error) {
	return c.Get(ctx, key)
}

// Readers is the leader alone: raft has no read index that others could ask for.
func (c *cluster) Readers() int  { return 1 }
func (c *cluster) Majority() int { return len(c.members)/2 + 1 }

func (c *cluster) Close() error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.raft.Shutdown().Error())
	}
	for _, m := range c.members {
		m.server.Stop()
		for _, cl := range m.close {
			errs = append(errs, cl.Close())
		}
	}
	return errors.Join(errs...)
}
