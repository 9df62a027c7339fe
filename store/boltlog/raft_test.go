package boltlog_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/boltlog"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

// TestRaft: a raft node lives on the log, behind a Guard, across compactions
// and restarts.
func TestRaft(t *testing.T) {
	const applies = 100
	dir, snaps := t.TempDir(), raft.NewInmemSnapshotStore()
	fsm := &raft.MockFSM{}
	for round := 1; round <= 3; round++ {
		g := raftlog.NewGuard(open(t, dir), raftlog.GuardOptions{TrailingBytes: -1})
		r := startRaft(t, g, fsm, snaps, round == 1)
		for n := range applies {
			check(t, r.Apply(fmt.Appendf(nil, "%d of round %d", n, round), time.Minute).Error())
		}
		if got := len(fsm.Logs()); got != round*applies {
			t.Fatalf("round %d: %d applied", round, got)
		}
		check(t, r.Snapshot().Error())
		first, err := g.FirstIndex()
		check(t, err)
		if last := r.LastIndex(); first != last-9 {
			t.Fatalf("round %d: after compaction the log is %d-%d", round, first, last)
		}
		check(t, errors.Join(r.Shutdown().Error(), g.Close()))
	}
}

func startRaft(t *testing.T, g *raftlog.Guard, fsm raft.FSM, snaps raft.SnapshotStore, first bool) *raft.Raft {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID = "a"
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	c.TrailingLogs = 10
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	leader := make(chan bool, 10)
	c.NotifyCh = leader
	addr, transport := raft.NewInmemTransport("")
	if first {
		check(t, raft.BootstrapCluster(c, g, g, snaps, transport,
			raft.Configuration{Servers: []raft.Server{{ID: "a", Address: addr}}}))
	}
	var r *raft.Raft
	check(t, g.Start(func() (err error) {
		r, err = raft.NewRaft(c, fsm, g, g, snaps, transport)
		return err
	}))
	if !<-leader {
		t.Fatal("not the leader")
	}
	return r
}

// TestWriteFails: the first failure is final, for reads too: they might show
// what is not on the disk.
func TestWriteFails(t *testing.T) {
	l := open(t, t.TempDir())
	check(t, l.StoreLogs(logtest.Entries(1, 3, 1)))
	check(t, boltlog.BreakDisk(l))
	failure := l.StoreLog(logtest.Entry(4, 1))
	if failure == nil {
		t.Fatal("stored on a broken disk")
	}
	_, getErr := l.Get([]byte("k"))
	_, lastErr := l.LastIndex()
	for _, err := range []error{l.GetLog(1, new(raft.Log)), l.Set([]byte("k"), nil), l.DeleteRange(1, 2), getErr, lastErr, l.Close()} {
		if err != failure {
			t.Fatalf("err = %v, want the first: %v", err, failure)
		}
	}
}
