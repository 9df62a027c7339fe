package replkv_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/replkvtest"
)

// TestBadArguments: each bad input is a typed error of outcome "not done", and
// changes nothing.
func TestBadArguments(t *testing.T) {
	db := replkvtest.Open(t)
	ctx := t.Context()
	if _, err := db.Set(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	before, _ := db.Revision(ctx)
	expired, cancel := context.WithCancel(ctx)
	cancel()
	scan := func(ctx context.Context, r replkv.Range, opts ...replkv.ScanOption) error {
		for _, err := range db.Scan(ctx, r, opts...) {
			return err
		}
		return nil
	}
	set := func(ctx context.Context, key string, value []byte, opts ...replkv.SetOption) error {
		_, err := db.Set(ctx, key, value, opts...)
		return err
	}
	get := func(ctx context.Context, key string, opts ...replkv.GetOption) error {
		_, err := db.Get(ctx, key, opts...)
		return err
	}
	del := func(r replkv.Range, opts ...replkv.DeleteOption) error {
		_, err := db.DeleteRange(ctx, r, opts...)
		return err
	}
	long := strings.Repeat("k", 4097)     // to be put
	longest := strings.Repeat("k", 65537) // to be anything
	for name, c := range map[string]struct{ err, want error }{
		"Set empty key":           {set(ctx, "", nil), replkv.ErrInvalidArgument},
		"Get empty key":           {get(ctx, ""), replkv.ErrInvalidArgument},
		"Set long key":            {set(ctx, long, nil), replkv.ErrTooLarge},
		"Get long key":            {get(ctx, longest), replkv.ErrTooLarge},
		"Set large value":         {set(ctx, "k", make([]byte, 1<<20+1)), replkv.ErrTooLarge},
		"Set negative revision":   {set(ctx, "k", nil, replkv.IfRevision(-1)), replkv.ErrInvalidArgument},
		"Set wrong revision":      {set(ctx, "k", nil, replkv.IfRevision(99)), replkv.ErrConflict},
		"Set present IfAbsent":    {set(ctx, "k", nil, replkv.IfAbsent()), replkv.ErrConflict},
		"Set expired":             {set(expired, "k", nil), context.Canceled},
		"Get expired":             {get(expired, "k"), context.Canceled},
		"Get future":              {get(ctx, "k", replkv.AtRevision(before+1)), replkv.ErrFutureRevision},
		"Get negative revision":   {get(ctx, "k", replkv.AtRevision(-1)), replkv.ErrInvalidArgument},
		"Get Local and AtLeast":   {get(ctx, "k", replkv.Local(), replkv.AtLeast(1)), replkv.ErrInvalidArgument},
		"Get absent":              {get(ctx, "absent"), replkv.ErrNotFound},
		"Scan inverted":           {scan(ctx, replkv.Between("b", "a")), replkv.ErrInvalidArgument},
		"Scan zero range":         {scan(ctx, replkv.Range{}), replkv.ErrInvalidArgument},
		"Scan negative limit":     {scan(ctx, replkv.All(), replkv.Limit(-1)), replkv.ErrInvalidArgument},
		"Scan expired":            {scan(expired, replkv.All()), context.Canceled},
		"DeleteRange zero range":  {del(replkv.Range{}), replkv.ErrInvalidArgument},
		"DeleteRange inverted":    {del(replkv.Between("b", "a")), replkv.ErrInvalidArgument},
		"DeleteRange conditional": {del(replkv.All(), replkv.IfRevision(1)), replkv.ErrInvalidArgument},
		"DeleteRange long bound":  {del(replkv.From(longest + "k")), replkv.ErrTooLarge},
	} {
		var typed *replkv.Error
		if !errors.Is(c.err, c.want) || !errors.As(c.err, &typed) {
			t.Errorf("%s: %v, want a *replkv.Error of %v", name, c.err, c.want)
		} else if typed.Outcome != replkv.OutcomeNotDone || errors.Is(c.err, replkv.ErrOutcomeUnknown) {
			t.Errorf("%s: outcome %v", name, typed.Outcome)
		}
	}
	if err := scan(ctx, replkv.Between("a", "a")); err != nil {
		t.Errorf("Scan of an empty range: %v", err)
	}
	if after, err := db.Revision(ctx); err != nil || after != before {
		t.Errorf("revision %d, %v; it was %d", after, err, before)
	}
}

// TestDeleteLimit: a range of too many keys is refused whole; ClearRange has no
// limit.
func TestDeleteLimit(t *testing.T) {
	c := replkvtest.NewCluster(t, 1, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) { cfg.MaxTxnOps = 10 }))
	db, ctx := c.DB(0), t.Context()
	for i := range 25 {
		if _, err := db.Set(ctx, fmt.Sprintf("k%02d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.DeleteRange(ctx, replkv.All()); !errors.Is(err, replkv.ErrTooLarge) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
		t.Fatalf("DeleteRange over the limit: %v", err)
	}
	if _, err := db.Get(ctx, "k00"); err != nil {
		t.Fatalf("a refused DeleteRange deleted: %v", err)
	}
	res, err := db.DeleteRange(ctx, replkv.Between("k00", "k10"), replkv.ReturnPrev())
	if err != nil || res.Deleted != 10 || len(res.Prev) != 10 || res.Prev[9].Key != "k09" {
		t.Fatalf("DeleteRange: %+v, %v", res, err)
	}
	if res, err = db.ClearRange(ctx, replkv.Prefix("k")); err != nil || res.Deleted != 15 {
		t.Fatalf("ClearRange: %+v, %v", res, err)
	}
	if res, err = db.Delete(ctx, "k00"); err != nil || res.Deleted != 0 {
		t.Fatalf("Delete of nothing: %+v, %v", res, err)
	}
}

// TestClosed: after Close each call says so, at once, and Close may be repeated.
func TestClosed(t *testing.T) {
	db := replkvtest.Open(t)
	ctx := t.Context()
	if db.Err() != nil {
		t.Fatalf("Err of an open store: %v", db.Err())
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	<-db.Done()
	_, setErr := db.Set(ctx, "k", nil)
	_, getErr := db.Get(ctx, "k")
	_, localErr := db.Get(ctx, "k", replkv.Local())
	_, delErr := db.Delete(ctx, "k")
	_, revErr := db.Revision(ctx)
	var scanErr error
	for _, scanErr = range db.Scan(ctx, replkv.All()) {
	}
	for i, err := range []error{setErr, getErr, localErr, delErr, revErr, scanErr, db.Ready(ctx), db.Err()} {
		if !errors.Is(err, replkv.ErrClosed) || errors.Is(err, replkv.ErrOutcomeUnknown) {
			t.Errorf("call %d on a closed store: %v", i, err)
		}
	}
	if err := errors.Join(db.Close(), db.Shutdown(ctx)); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if s := db.Status(); s.Role != "stopped" {
		t.Errorf("role of a closed store: %q", s.Role)
	}
}

// TestNoQuorum: without a deadline of the caller's, a write ends after
// RequestTimeout and names who was not reached.
func TestNoQuorum(t *testing.T) {
	c := replkvtest.NewCluster(t, 3, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) { cfg.RequestTimeout = 1500 * time.Millisecond }))
	c.Crash(1)
	c.Crash(2)
	began := time.Now()
	_, err := c.DB(0).Set(context.Background(), "k", nil)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if !errors.Is(err, replkv.ErrNoLeader) || !strings.Contains(err.Error(), "m1: ") || !strings.Contains(err.Error(), "m2: ") {
		t.Errorf("Set without a quorum: %v", err)
	}
	if _, err := c.DB(0).Get(context.Background(), "k"); !errors.Is(err, replkv.ErrNoLeader) || replkv.OutcomeOf(err) != replkv.OutcomeNotDone {
		t.Errorf("Get without a quorum: %v", err)
	}
	if _, err := c.DB(0).Get(context.Background(), "k", replkv.Local()); !errors.Is(err, replkv.ErrNotFound) {
		t.Errorf("Local Get without a quorum: %v", err)
	}
}

// TestExpiredWrite: the error of a write whose ctx expired matches both the
// ctx's error and, if a batch had it, ErrOutcomeUnknown.
func TestExpiredWrite(t *testing.T) {
	c := replkvtest.NewCluster(t, 3)
	lead := c.Leader()
	c.Partition([]int{lead})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.DB(lead).Set(ctx, "k", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if replkv.OutcomeOf(err) != replkv.OutcomeUnknown || !errors.Is(err, replkv.ErrOutcomeUnknown) {
		t.Errorf("outcome %v of %v", replkv.OutcomeOf(err), err)
	}
}

func TestBadConfig(t *testing.T) {
	dir := t.TempDir()
	one := []replkv.Member{{ID: "a", Addr: "127.0.0.1:7001"}}
	for name, cfg := range map[string]replkv.Config{
		"no directory":        {},
		"bad id":              {Dir: dir, ID: "A_"},
		"address without TLS": {Dir: dir, ID: "a", Addr: "127.0.0.1:7001", InitialCluster: one},
		"no members":          {Dir: dir, ID: "a", Addr: "127.0.0.1:7001", InsecurePeers: true},
		"any address":         {Dir: dir, ID: "a", Addr: "0.0.0.0:7001", InitialCluster: one, InsecurePeers: true},
		"not a member":        {Dir: dir, ID: "b", Addr: "127.0.0.1:7002", InitialCluster: one, InsecurePeers: true},
		"semicolon":           {Dir: dir, ID: "a", Addr: "a;b:7001", InitialCluster: []replkv.Member{{ID: "a", Addr: "a;b:7001"}}, InsecurePeers: true},
		"other's umlaut":      {Dir: dir, ID: "a", Addr: "127.0.0.1:7001", InitialCluster: append(one[:1:1], replkv.Member{ID: "b", Addr: "höst:1"}), InsecurePeers: true},
		"tab in Join":         {Dir: dir, ID: "a", Addr: "127.0.0.1:7001", Join: []string{"a\tb:1"}, InsecurePeers: true},
		"another address":     {Dir: dir, ID: "a", Addr: "127.0.0.1:7002", InitialCluster: one, InsecurePeers: true},
		"members, no address": {Dir: dir, InitialCluster: one},
		"slow heartbeat":      {Dir: dir, HeartbeatInterval: time.Second},
		"large values":        {Dir: dir, MaxValueBytes: 1 << 30},
		"short history":       {Dir: dir, HistoryAge: time.Millisecond},
		"negative history":    {Dir: dir, HistoryRevisions: -1},
	} {
		db, err := replkv.Open(cfg)
		if !errors.Is(err, replkv.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
		if db != nil {
			db.Close()
		}
	}
}

// TestDirectories: whose directory it is, and whether it can be read, is told
// before anything is changed.
func TestDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open := func(change func(*replkv.Config)) error {
		cfg := replkv.Config{Dir: dir, ID: "a", ClusterToken: "t"}
		if change != nil {
			change(&cfg)
		}
		db, err := replkv.Open(cfg)
		if err == nil {
			err = db.Close()
		}
		return err
	}
	if err := open(nil); err != nil {
		t.Fatal(err)
	}
	if err := open(func(c *replkv.Config) { c.ID = "b" }); !errors.Is(err, replkv.ErrInvalidConfig) {
		t.Errorf("another member's directory: %v", err)
	}
	if err := open(func(c *replkv.Config) { c.ClusterToken = "other" }); !errors.Is(err, replkv.ErrWrongCluster) {
		t.Errorf("another cluster's directory: %v", err)
	}
	db, err := replkv.Open(replkv.Config{Dir: dir, ID: "a", ClusterToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := open(nil); !errors.Is(err, replkv.ErrDirLocked) {
		t.Errorf("a directory in use: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	name := filepath.Join(dir, "identity")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	newer := replkv.NewerIdentityForTest(good)
	damaged := append([]byte{}, good...)
	damaged[20] ^= 1
	for _, c := range []struct {
		content []byte
		want    error
	}{{newer, replkv.ErrFormatTooNew}, {damaged, replkv.ErrCorrupt}, {nil, replkv.ErrCorrupt}} {
		if err := os.WriteFile(name, c.content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := open(nil); !errors.Is(err, c.want) {
			t.Errorf("identity file %q: %v, want %v", c.content, err, c.want)
		}
	}
	if err := os.WriteFile(name, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open(nil); err != nil {
		t.Errorf("after all that: %v", err)
	}

	if err := open(func(c *replkv.Config) {
		c.Addr, c.InsecurePeers = "127.0.0.1:7001", true
		c.InitialCluster = []replkv.Member{{ID: "a", Addr: "127.0.0.1:7001"}}
	}); !errors.Is(err, replkv.ErrInvalidConfig) {
		t.Errorf("a single member's directory with peers: %v", err)
	}

	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "letters.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := replkv.Open(replkv.Config{Dir: foreign}); !errors.Is(err, replkv.ErrInvalidConfig) {
		t.Errorf("somebody's documents: %v", err)
	}
}

// TestLostData: a directory whose log and state are gone refuses to take part.
func TestLostData(t *testing.T) {
	dir := t.TempDir()
	cfg := replkv.Config{Dir: dir}
	db, err := replkv.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"log", "state"} {
		if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := replkv.Open(cfg); !errors.Is(err, replkv.ErrCorrupt) {
		t.Errorf("a member that lost its data: %v", err)
	}
}

// TestServers: registering twice is an error, not the end of the process, and
// GracefulStop before Shutdown ends in bounded time.
func TestServers(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := func(addr string, members ...replkv.Member) *replkv.DB {
		db, err := replkv.Open(replkv.Config{Dir: t.TempDir(), ID: "a", Addr: addr, InsecurePeers: true,
			InitialCluster: append(members, replkv.Member{ID: "a", Addr: addr})})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	db, other := open(lis.Addr().String()), open("127.0.0.1:1")
	srv := grpc.NewServer()
	for _, register := range []func(*replkv.DB) error{
		func(db *replkv.DB) error { return db.RegisterPeer(srv) },
		func(db *replkv.DB) error { return db.RegisterClient(srv) },
	} {
		if err := register(db); err != nil {
			t.Fatal(err)
		}
		for _, again := range []*replkv.DB{db, other} {
			if err := register(again); !errors.Is(err, replkv.ErrAlreadyRegistered) {
				t.Errorf("registering again: %v", err)
			}
		}
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	if err := db.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { srv.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(15 * time.Second):
		t.Error("GracefulStop before Shutdown hangs")
		srv.Stop()
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := db.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestClearRangeLongKeys: keys so long that the replicated limit on bytes allows
// fewer of them than MaxTxnOps.
func TestClearRangeLongKeys(t *testing.T) {
	db := replkvtest.Open(t)
	long := strings.Repeat("k", 4000)
	var wg sync.WaitGroup
	const keys = 5000 // 20 MB; one revision may delete 16 MiB
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < keys; i += 16 {
				if _, err := db.Set(t.Context(), fmt.Sprintf("%s%06d", long, i), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := db.DeleteRange(t.Context(), replkv.All()); !errors.Is(err, replkv.ErrTooLarge) {
		t.Errorf("DeleteRange of too many bytes: %v", err)
	}
	if res, err := db.ClearRange(t.Context(), replkv.All()); err != nil || res.Deleted != keys {
		t.Fatalf("ClearRange: %+v, %v", res, err)
	}
}

// spent is a ctx that ends when over says so, at no other time.
type spent struct {
	context.Context
	over func() bool
}

func (s spent) Err() error {
	if s.over() {
		return context.Canceled
	}
	return nil
}

// TestClearRangeThatGivesUp: once it has deleted something, it is not "not done" any more,
// whatever its last step says of itself.
func TestClearRangeThatGivesUp(t *testing.T) {
	c := replkvtest.NewCluster(t, 1, replkvtest.WithConfig(func(_ int, cfg *replkv.Config) { cfg.MaxTxnOps = 1 }))
	db, ctx := c.DB(0), t.Context()
	for i := range 3 {
		if _, err := db.Set(ctx, fmt.Sprint("k", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for deletions, want := range []replkv.Outcome{replkv.OutcomeNotDone, replkv.OutcomeUnknown} {
		until := db.Status().Revision + replkv.Revision(deletions)
		res, err := db.ClearRange(spent{context.Background(), func() bool { return db.Status().Revision >= until }}, replkv.All())
		e, ok := errors.AsType[*replkv.Error](err)
		if !ok || e.Op != "ClearRange" || e.Outcome != want || !errors.Is(err, context.Canceled) || res.Deleted != int64(deletions) {
			t.Errorf("%+v, %v, outcome %v; want %d deleted and outcome %v", res, err, replkv.OutcomeOf(err), deletions, want)
		}
	}
}

// TestOpenThatFailsClosesListener: the handle owns it, whatever is wrong.
func TestOpenThatFailsClosesListener(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*replkv.Config){
		"bad configuration": func(c *replkv.Config) { c.ID = "A_" },
		"no directory":      func(c *replkv.Config) { c.Dir = file },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		cfg := replkv.Config{Dir: t.TempDir(), ID: "a", Addr: addr, Listener: l, InsecurePeers: true, InitialCluster: []replkv.Member{{ID: "a", Addr: addr}}}
		change(&cfg)
		if db, err := replkv.Open(cfg); err == nil {
			t.Errorf("%s: no error", name)
			db.Close()
		}
		if err := l.(*net.TCPListener).SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the listener is open, %v", name, err)
			l.Close()
		}
	}
}
