package transport

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/transport/memnet"
)

// logFSM keeps what it applied.
type logFSM struct{ data [][]byte }

func (f *logFSM) Apply(l *raft.Log) any               { f.data = append(f.data, l.Data); return nil }
func (f *logFSM) Snapshot() (raft.FSMSnapshot, error) { return f, nil }
func (f *logFSM) Persist(sink raft.SnapshotSink) error {
	sink.Write(bytes.Join(f.data, []byte("\n")))
	return sink.Close()
}
func (f *logFSM) Release() {}
func (f *logFSM) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	f.data = bytes.Split(b, []byte("\n"))
	return err
}

type node struct {
	*raft.Raft
	fsm *logFSM
	tr  *Transport
}

func startRaft(t *testing.T, n *memnet.Network, id string, boot *raft.Configuration) node {
	t.Helper()
	tr := start(t, n, id)
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(id)
	cfg.Logger = hclog.NewNullLogger()
	cfg.TrailingLogs = 10
	cfg.SnapshotThreshold = 1 << 30
	store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	if boot != nil {
		if err := raft.BootstrapCluster(cfg, store, store, snaps, tr, *boot); err != nil {
			t.Fatal(err)
		}
	}
	fsm := &logFSM{}
	r, err := raft.NewRaft(cfg, fsm, store, store, snaps, tr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.Close()
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second) // raft's own timers
	})
	return node{r, fsm, tr}
}

// leader waits for one; the clock is virtual.
func leader(t *testing.T, nodes []node, not string) node {
	t.Helper()
	for range 600 {
		for _, n := range nodes {
			if n.State() == raft.Leader && n.tr.cfg.ID != not && n.VerifyLeader().Error() == nil {
				return n
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("no leader within a minute")
	return node{}
}

func TestARealCluster(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		conf := raft.Configuration{}
		for _, id := range []string{"a", "b", "c"} {
			conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":1")})
		}
		var nodes []node
		for _, s := range conf.Servers {
			nodes = append(nodes, startRaft(t, n, string(s.ID), &conf))
		}
		l := leader(t, nodes, "")
		var futures []raft.ApplyFuture
		for i := range 1000 {
			futures = append(futures, l.Apply(fmt.Appendf(nil, "entry %d", i), 0))
		}
		for _, f := range futures {
			if err := f.Error(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.LeadershipTransfer().Error(); err != nil {
			t.Fatal(err)
		}
		second := leader(t, nodes, l.tr.cfg.ID)

		n.Isolate(second.tr.cfg.ID)
		third := leader(t, nodes, second.tr.cfg.ID)
		if err := third.Apply([]byte("entry 1000"), 0).Error(); err != nil {
			t.Fatal(err)
		}
		n.Heal()

		// A newcomer gets all of it as a snapshot.
		if err := third.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, startRaft(t, n, "d", nil))
		if err := third.AddNonvoter("d", "d:1", 0, time.Minute).Error(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, n := range nodes {
			if len(n.fsm.data) != 1001 || string(n.fsm.data[1000]) != "entry 1000" {
				t.Errorf("%s has %d entries", n.tr.cfg.ID, len(n.fsm.data))
			}
		}
	})
}
