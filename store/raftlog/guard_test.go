package raftlog_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/store/raftlog/logtest"
)

var errDisk = errors.New("disk failed")

// faultyStore fails or hangs in the operations whose name is set.
type faultyStore struct {
	*raft.InmemStore
	failing atomic.Pointer[string]
	hanging atomic.Pointer[string]
	release chan struct{}
	calls   atomic.Int64 // of failing operations
}

func newFaulty() *faultyStore {
	return &faultyStore{InmemStore: raft.NewInmemStore(), release: make(chan struct{})}
}

func (f *faultyStore) fault(op string) error {
	if name := f.hanging.Load(); name != nil && *name == op {
		<-f.release
	}
	if name := f.failing.Load(); name != nil && *name == op {
		f.calls.Add(1)
		return errDisk
	}
	return nil
}

func (f *faultyStore) GetLog(index uint64, l *raft.Log) error {
	if err := f.fault("GetLog"); err != nil {
		return err
	}
	return f.InmemStore.GetLog(index, l)
}

func (f *faultyStore) StoreLogs(l []*raft.Log) error {
	if err := f.fault("StoreLogs"); err != nil {
		return err
	}
	return f.InmemStore.StoreLogs(l)
}

func (f *faultyStore) DeleteRange(low, high uint64) error {
	if err := f.fault("DeleteRange"); err != nil {
		return err
	}
	return f.InmemStore.DeleteRange(low, high)
}

func (f *faultyStore) Set(key, value []byte) error {
	if err := f.fault("Set"); err != nil {
		return err
	}
	return f.InmemStore.Set(key, value)
}

func (f *faultyStore) SetUint64(key []byte, value uint64) error {
	if err := f.fault("SetUint64"); err != nil {
		return err
	}
	return f.InmemStore.SetUint64(key, value)
}

type nullFSM struct{}

func (nullFSM) Apply(*raft.Log) any                 { return nil }
func (nullFSM) Snapshot() (raft.FSMSnapshot, error) { return nullFSM{}, nil }
func (nullFSM) Restore(r io.ReadCloser) error       { return r.Close() }
func (nullFSM) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (nullFSM) Release()                            {}

// unpipelined is a transport without pipelines: raft's pipelineReplicate does
// not defer the end of its helper goroutine, so a Guard that ends it would
// leave the helper, and Shutdown().Error(), waiting for ever.
type unpipelined struct{ *raft.InmemTransport }

func (unpipelined) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// member is a raft node on a guarded store.
type member struct {
	id    raft.ServerID
	store raftlog.Store
	guard *raftlog.Guard
	fatal chan error
	trans *raft.InmemTransport
	raft  *raft.Raft
}

func newMember(id string, store raftlog.Store) *member {
	m := &member{id: raft.ServerID(id), store: store, fatal: make(chan error, 10)}
	m.guard = raftlog.NewGuard(store, raftlog.GuardOptions{OnFatal: func(err error) { m.fatal <- err }})
	_, m.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(id), 100*time.Millisecond)
	return m
}

func (m *member) start() error {
	c := raft.DefaultConfig()
	c.LocalID, c.Logger, c.TrailingLogs = m.id, hclog.NewNullLogger(), 1
	return m.guard.Start(func() (err error) {
		m.raft, err = raft.NewRaft(c, nullFSM{}, m.guard, m.guard, raft.NewInmemSnapshotStore(), unpipelined{m.trans})
		return err
	})
}

// cluster bootstraps and connects members, and waits until the first leads.
func cluster(t *testing.T, members ...*member) {
	t.Helper()
	var c raft.Configuration
	for _, m := range members {
		c.Servers = append(c.Servers, raft.Server{ID: m.id, Address: m.trans.LocalAddr()})
		for _, other := range members {
			m.trans.Connect(other.trans.LocalAddr(), other.trans)
		}
	}
	for _, m := range members {
		if err := m.guard.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}); err != nil {
			t.Fatal(err)
		}
		if err := m.guard.SetUint64([]byte("CurrentTerm"), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range slices.Backward(members) {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	for members[0].raft.State() != raft.Leader {
		for _, m := range members[1:] {
			if m.raft.State() == raft.Leader {
				m.raft.LeadershipTransfer().Error()
			}
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
}

// TestGuardedRaft: whatever operation fails, on a leader or on a follower, the
// process lives, OnFatal is called once, and raft's Shutdown returns.
func TestGuardedRaft(t *testing.T) {
	cases := []struct {
		name   string
		op     string
		victim int // 0: the leader
		act    func(leader, victim *member)
	}{
		{"leader cannot store", "StoreLogs", 0, func(l, _ *member) { go l.raft.Apply([]byte("x"), time.Second) }},
		{"follower cannot store", "StoreLogs", 1, func(l, _ *member) { go l.raft.Apply([]byte("x"), time.Second) }},
		{"follower cannot read", "GetLog", 1, func(l, _ *member) { go l.raft.Apply([]byte("x"), time.Second) }},
		{"leader cannot read to replicate", "GetLog", 0, func(l, _ *member) { go l.raft.Apply([]byte("x"), time.Second) }},
		{"term cannot be set", "SetUint64", 1, func(l, _ *member) { go l.raft.LeadershipTransfer() }},
		{"vote cannot be set", "Set", 1, func(l, _ *member) { go l.raft.LeadershipTransfer() }},
		{"log cannot be compacted", "DeleteRange", 0, func(l, _ *member) { go l.raft.Snapshot() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stores := []*faultyStore{newFaulty(), newFaulty()}
				members := []*member{newMember("a", stores[0]), newMember("b", stores[1])}
				cluster(t, members...)
				for range 20 {
					if err := members[0].raft.Apply([]byte("x"), time.Second).Error(); err != nil {
						t.Fatal(err)
					}
				}
				stores[c.victim].failing.Store(&c.op)
				c.act(members[0], members[c.victim])
				err := <-members[c.victim].fatal
				if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), c.op) {
					t.Errorf("OnFatal(%v)", err)
				}
				time.Sleep(5 * time.Second) // virtual: elections, retries
				for _, m := range members {
					if err := m.raft.Shutdown().Error(); err != nil {
						t.Error(err)
					}
				}
				if n := stores[c.victim].calls.Load(); n != 1 {
					t.Errorf("a failed store was called %d times", n)
				}
				if len(members[c.victim].fatal) > 0 {
					t.Error("OnFatal was called again")
				}
				for _, m := range members {
					m.guard.Close()
				}
				time.Sleep(time.Minute) // virtual: the rest of raft's sleepers
			})
		})
	}
}

// TestGuardStall: a leader whose disk hangs stops being one, and its shutdown
// does not wait for the disk.
func TestGuardStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m, other := newMember("a", store), newMember("b", newFaulty())
		cluster(t, m, other)
		op := "StoreLogs"
		store.hanging.Store(&op)
		began := time.Now()
		m.raft.Apply([]byte("x"), time.Second)
		if err := <-m.fatal; !errors.Is(err, raftlog.ErrStalled) {
			t.Errorf("OnFatal(%v)", err)
		}
		if took := time.Since(began); took != raftlog.DefaultWriteDeadline {
			t.Errorf("reported after %v", took)
		}
		time.Sleep(5 * time.Second) // virtual
		if other.raft.State() == raft.Follower {
			t.Error("the other member still hears a leader whose disk hangs")
		}
		m.raft.Shutdown().Error()
		other.raft.Shutdown().Error()
		if err := m.guard.Close(); !errors.Is(err, raftlog.ErrStalled) {
			t.Errorf("Close = %v", err)
		}
		other.guard.Close()
		close(store.release)
		time.Sleep(time.Minute)
	})
}

// TestGuardStalledRead: a read that hangs is reported meanwhile, and ends its
// goroutine once it returns.
func TestGuardStalledRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty()
		m := newMember("a", store)
		op := "GetLog"
		store.hanging.Store(&op)
		m.guard.Arm()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.guard.GetLog(1, new(raft.Log))
			m.guard.GetLog(1, new(raft.Log))
			t.Error("still running")
		}()
		if err := <-m.fatal; !errors.Is(err, raftlog.ErrStalled) {
			t.Errorf("OnFatal(%v)", err)
		}
		close(store.release)
		<-ended
		m.guard.Close()
	})
}

// TestGuardStart: what NewRaft would panic about comes back as an error.
func TestGuardStart(t *testing.T) {
	for _, op := range []string{"GetLog", "SetUint64"} {
		store := newFaulty()
		if err := store.StoreLogs(logtest.Entries(1, 5, 1)); err != nil {
			t.Fatal(err)
		}
		store.failing.Store(&op)
		m := newMember("a", store)
		if err := m.start(); !errors.Is(err, errDisk) {
			t.Errorf("%s: Start = %v", op, err)
		}
		m.guard.Close()
	}
	m := newMember("a", newFaulty())
	defer m.guard.Close()
	if err := m.guard.Start(func() error { panic("at the disco") }); err == nil || !strings.Contains(err.Error(), "disco") {
		t.Errorf("Start = %v", err)
	}
	if err := m.guard.Start(func() error { return io.ErrUnexpectedEOF }); err != io.ErrUnexpectedEOF {
		t.Errorf("Start = %v", err)
	}
}

// TestGuardUnarmed: before raft runs, errors are the caller's and final for nobody.
func TestGuardUnarmed(t *testing.T) {
	store := newFaulty()
	m := newMember("a", store)
	op := "StoreLogs"
	store.failing.Store(&op)
	if err := m.guard.StoreLogs(logtest.Entries(1, 1, 1)); err != errDisk {
		t.Errorf("StoreLogs = %v", err)
	}
	store.failing.Store(nil)
	if err := m.guard.StoreLogs(logtest.Entries(1, 1, 1)); err != nil {
		t.Error(err)
	}
	if len(m.fatal) > 0 || m.guard.Err() != nil {
		t.Error("an error before Arm is fatal")
	}
	if err := m.guard.Close(); err != nil {
		t.Error(err)
	}
	m.guard.Arm()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.guard.SetUint64([]byte("CurrentTerm"), 2)
		t.Error("a closed guard lets raft go on")
	}()
	<-ended
	if len(m.fatal) > 0 {
		t.Error("Close is no failure")
	}
}
