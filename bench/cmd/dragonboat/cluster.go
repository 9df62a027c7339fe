package main

import (
	"context"
	"errors"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"

	"github.com/replkv/replkv/bench/system"
)

const shard = 1

// cluster is three hosts, the leader first.
type cluster struct {
	hosts   []*dragonboat.NodeHost
	session *client.Session // none: proposals are not deduplicated
}

func open(dir string) (system.System, error) {
	for _, name := range []string{"raft", "rsm", "transport", "grpc", "logdb", "dragonboat", "raftpb", "config", "settings", "utils",
		"server", "registry", "tan", "order", "tests"} {
		logger.GetLogger(name).SetLevel(logger.ERROR)
	}
	c := &cluster{}
	if err := c.open(dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *cluster) open(dir string) error {
	addrs, err := system.FreeAddrs(system.Members)
	if err != nil {
		return err
	}
	table := map[uint64]dragonboat.Target{}
	for i, a := range addrs {
		table[uint64(i)+1] = a
	}
	for i, a := range addrs {
		host, err := dragonboat.NewNodeHost(hostConfig(system.MemberDir(dir, i), a))
		if err != nil {
			return err
		}
		c.hosts = append(c.hosts, host)
		if err := host.StartConcurrentReplica(table, false, newState, shardConfig(uint64(i)+1)); err != nil {
			return err
		}
	}
	return c.leaderFirst()
}

// hostConfig is dragonboat's own but for addresses and the clock's tick, which
// its documentation wants at the round trip, 1 ms at least. LogDB (with
// fsync, which cannot be turned off) and engine are its defaults, the largest and
// fastest that it offers.
func hostConfig(dir, addr string) config.NodeHostConfig {
	return config.NodeHostConfig{NodeHostDir: dir, RaftAddress: addr, RTTMillisecond: 1}
}

// shardConfig has the elections of the other systems, 1 s. Its snapshots copy the
// whole map, and cost a third more CPU per write if they keep the log as short
// as replkv's; so they are rare, as who wants throughput would have them.
func shardConfig(replica uint64) config.Config {
	return config.Config{ReplicaID: replica, ShardID: shard, ElectionRTT: 1000, HeartbeatRTT: 100, CheckQuorum: true,
		SnapshotEntries: 1_000_000, CompactionOverhead: 100_000}
}

func (c *cluster) leaderFirst() error {
	for range 300 {
		leader, _, ok, err := c.hosts[0].GetLeaderID(shard)
		if err == nil && ok {
			i := int(leader) - 1
			c.hosts[0], c.hosts[i] = c.hosts[i], c.hosts[0]
			c.session = c.hosts[0].GetNoOPSession(shard)
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("no member leads")
}

func (c *cluster) Set(ctx context.Context, key string, value []byte) error {
	_, err := c.hosts[0].SyncPropose(ctx, c.session, encode(key, value))
	return err
}

func (c *cluster) Get(ctx context.Context, key string) ([]byte, error) { return c.GetAny(ctx, 0, key) }

func (c *cluster) GetAny(ctx context.Context, member int, key string) ([]byte, error) {
	v, err := c.hosts[member].SyncRead(ctx, shard, key)
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

func (c *cluster) Readers() int  { return len(c.hosts) }
func (c *cluster) Majority() int { return len(c.hosts)/2 + 1 }

func (c *cluster) Close() error {
	for _, h := range c.hosts {
		h.Close()
	}
	return nil
}
