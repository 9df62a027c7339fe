package replkv

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/lease"
	"github.com/replkv/replkv/internal/watch"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/transport"
)

func init() {
	hook.Open = func(cfg any, e hook.Edges) (any, error) { return Open(hook.WithEdges(cfg, e).(Config)) }
	hook.WithEdges = func(cfg any, e hook.Edges) any {
		c := cfg.(Config)
		c.edges = e
		return c
	}
	hook.Inspect = func(db any) hook.Insides { return db.(*DB).insides() }
}

// Open opens the store in cfg.Dir, creating it if it is not there. It looks at
// the local disk only and never waits for peers: Ready does. Errors:
// ErrInvalidConfig, ErrDirLocked, ErrWrongCluster, ErrFormatTooNew, ErrCorrupt,
// and those of the disk. After an error cfg.Listener is closed.
func Open(cfg Config) (*DB, error) {
	db, err := open(cfg)
	if err != nil && cfg.Listener != nil {
		cfg.Listener.Close() // the handle would own it
	}
	return db, err
}

func open(cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("replkv: Open: %w", err)
	}
	db := &DB{cfg: cfg, log: cfg.Logger, gone: make(chan struct{})}
	db.peers.log = db.log
	db.lessor = lease.New(db.decideLeases)
	db.proof.db, db.proof.dirty = db, make(chan struct{}, 1)
	db.ctx, db.cancel = context.WithCancelCause(context.Background())
	if err := db.open(); err != nil {
		db.cancel(err)
		return nil, fmt.Errorf("replkv: Open %s: %w", cfg.Dir, err)
	}
	db.mu.Lock()
	db.opened = true
	failed := db.err
	db.mu.Unlock()
	if failed != nil { // while it opened
		db.teardown()
		return nil, fmt.Errorf("replkv: Open %s: %w", cfg.Dir, failed)
	}
	return db, nil
}

// open takes hold of one thing after the other, and lets all go if one fails.
func (db *DB) open() (err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()
	fs, dir := db.cfg.edges.FS, db.cfg.Dir
	if err = disk.MkdirAll(fs, dir); err != nil {
		return err
	}
	if db.lock, err = disk.Lock(fs, dir); err != nil {
		return err
	}
	undo = append(undo, db.lock.Close)
	if db.id, err = openIdentity(&db.cfg); err != nil {
		return err
	}
	db.present = db.id.present()
	if err = db.openState(); err != nil {
		return err
	}
	undo = append(undo, db.state.Close)
	if err = db.openLog(); err != nil {
		return err
	}
	undo = append(undo, db.guard.Close)
	if err = db.checkFloor(); err != nil {
		return err
	}
	if err = db.preflight(); err != nil {
		return err
	}
	if err = db.checkPlace(); err != nil {
		return err
	}
	db.proof.begin()
	if err = db.openTransport(); err != nil {
		return err
	}
	undo = append(undo, db.trans.Close)
	if err = db.listen(); err != nil {
		return err
	}
	if db.listener != nil {
		undo = append(undo, db.listener.Close)
	}
	db.parts()
	if err = db.startRaft(); err != nil {
		return err
	}
	db.run()
	return nil
}

func (db *DB) openState() (err error) {
	db.state, err = store.Open(db.cfg.edges.FS.PathJoin(db.cfg.Dir, stateName), store.Options{
		FS: db.cfg.edges.FS, Logger: db.log, CacheBytes: db.cfg.CacheBytes,
		OnFatal: db.fatal, OnMembers: db.proof.changed, OnLease: db.leaseChanged,
	})
	return err
}

// What lies in a member's directory, beside its identity.
const (
	stateName = "state"
	logName   = "log"
	// floorName is the file that remembers what the member has promised. It lies
	// outside of log and state, which it judges.
	floorName = "floor"
)

func (db *DB) openLog() error {
	fs, dir := db.cfg.edges.FS, db.cfg.Dir
	floor, found, err := raftlog.OpenFloor(fs, fs.PathJoin(dir, floorName))
	if errors.Is(err, ErrCorrupt) {
		// It says nothing, which is as bad as none at all.
		db.log.Error("the floor is unreadable; a new one is begun", "error", err)
		if err := errors.Join(fs.Remove(fs.PathJoin(dir, floorName)), disk.SyncDir(fs, dir)); err != nil {
			return err
		}
		floor, found, err = raftlog.OpenFloor(fs, fs.PathJoin(dir, floorName))
	}
	if err != nil {
		return err
	}
	l, err := db.cfg.openLogStore(dir, floor.State().Term)
	if err != nil {
		return errors.Join(err, floor.Close())
	}
	db.floorFound, db.floorIndex = found, floor.State().Index
	db.guard = raftlog.NewGuard(l, raftlog.GuardOptions{Logger: db.log, TrailingBytes: db.cfg.TrailingLogBytes, OnFatal: db.fatal,
		Deadline: db.cfg.WriteDeadline, Floor: floor, Applied: func() uint64 { return db.state.State().Index }})
	return nil
}

// openLogStore opens the log of a member's directory. known is the term that its floor
// knows, 0 if it does not. A log that has nothing, not even a term, though its directory is
// in use is refused: most likely it is another LogStore than the one that the member was
// made with. To go on would have the member take it for lost, for good.
func (c *Config) openLogStore(dir string, known uint64) (LogStore, error) {
	dir = c.edges.FS.PathJoin(dir, logName)
	before, _ := c.edges.FS.List(dir)
	l, err := c.LogStore(dir)
	if err != nil || known == 0 || len(before) == 0 {
		return l, err
	}
	last, err := l.LastIndex()
	if err == nil && last == 0 {
		if term, err := l.GetUint64([]byte("CurrentTerm")); err == nil && term > 0 {
			return l, nil
		}
		err = fmt.Errorf("%w: LogStore finds nothing in %s, where a log is: is it the one that the directory was made with?", ErrInvalidConfig, dir)
	}
	if err != nil {
		return nil, errors.Join(err, closeLogStore(l))
	}
	return l, nil
}

// closeLogStore closes l if it can be.
func closeLogStore(l LogStore) error {
	if c, ok := l.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// checkFloor finds out what the member has lost of what it promised. That is
// written down before anything is mended: term and vote can be, what went with
// them cannot.
func (db *DB) checkFloor() error {
	lost, err := db.guard.CheckFloor()
	if err != nil {
		return err
	}
	if lost == "" && !db.floorFound {
		last, err := db.guard.LastIndex()
		if err != nil {
			return err
		}
		if last > 1 || db.state.State().Index > 1 {
			lost = "its floor is gone: whether anything else is, nobody can tell"
		}
	}
	if lost == "" {
		return nil
	}
	if err := db.proof.lost(lost); err != nil {
		return err
	}
	return db.guard.RaiseStable()
}

// preflight brings log and state into a relation that raft can start from, or
// says what is wrong: raft itself would panic, or go on.
func (db *DB) preflight() error {
	first, err := db.guard.FirstIndex()
	if err != nil {
		return err
	}
	last, err := db.guard.LastIndex()
	if err != nil {
		return err
	}
	st := db.state.State()
	switch {
	case last == 0 && st.Index == 0:
		return db.empty()
	case !db.id.begun && last == 1 && st.Index == 0:
		return db.genesis() // torn after the entry: the same bytes again
	case last == 0:
		// raft's first act was to store its term beside the log.
		if term, err := db.guard.GetUint64([]byte("CurrentTerm")); err != nil || term == 0 {
			return fmt.Errorf("%w: the log of %s is gone (term %d, %v); remove the member and add it anew", ErrCorrupt, db.cfg.Dir, term, err)
		}
		return nil // a snapshot was installed, and the log emptied
	case first > st.Index+1:
		return fmt.Errorf("%w: the log begins at %d, the state ends at %d: the entries between are gone; remove the member and add it anew",
			ErrCorrupt, first, st.Index)
	case last < st.Index:
		// An installed snapshot is ahead of the log.
		return db.guard.DeleteRange(first, last)
	case st.Index >= first && st.Index > 0:
		return db.checkTerm(first, last, st)
	}
	return nil
}

// checkTerm drops a log whose entry at the applied index is another than the
// one applied: it was cut off by an installed snapshot.
func (db *DB) checkTerm(first, last uint64, st store.State) error {
	var l raft.Log
	if err := db.guard.GetLog(st.Index, &l); err != nil {
		return err
	}
	if l.Term == st.Term {
		return nil
	}
	db.log.Warn("the log conflicts with the state and is dropped", "index", st.Index, "log term", l.Term, "state term", st.Term)
	return db.guard.DeleteRange(first, last)
}

// empty decides what an empty directory may be: one that begins, or one that
// waits for the data of the cluster it has joined.
func (db *DB) empty() error {
	switch {
	case !db.id.begun && db.id.cluster == [16]byte{}: // to join
		return nil
	case !db.id.begun:
		return db.genesis()
	case !db.id.settled && db.floorIndex == 0: // joined, and fed nothing yet
		return nil
	}
	return fmt.Errorf("%w: log and state of %s are empty, but the member was at work: its data is gone; remove the member, empty the directory and let it join anew",
		ErrCorrupt, db.cfg.Dir)
}

// genesis writes the first log entry: the configuration, the same bytes on
// each first member. It may have been torn before: then it is done again.
func (db *DB) genesis() error {
	c := firstConfiguration(db.cfg.firstMembers())
	if err := errors.Join(db.failpoint("genesis-term"), db.guard.SetUint64([]byte("CurrentTerm"), 1), db.failpoint("genesis-entry")); err != nil {
		return err
	}
	if last, err := db.guard.LastIndex(); err != nil {
		return err
	} else if last > 0 {
		if err := db.guard.DeleteRange(1, last); err != nil {
			return err
		}
	}
	entry := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
	if err := db.guard.StoreLog(entry); err != nil {
		return err
	}
	if err := db.failpoint("genesis-done"); err != nil {
		return err
	}
	db.id.begun, db.id.since = true, 1
	db.id.settled = len(c.Servers) == 1 // nobody else could know better
	return db.id.save(&db.cfg)
}

// firstConfiguration is that of a cluster that begins.
func firstConfiguration(members []Member) (c raft.Configuration) {
	for _, m := range slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) }) {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)})
	}
	return c
}

// checkPlace keeps a single member's directory from being opened as one of a
// cluster, and the other way round. An Addr other than the table's is fine: the
// member tells where it is now.
func (db *DB) checkPlace() error {
	c, err := db.firstKnown()
	if err != nil {
		return err
	}
	for _, s := range c.Servers {
		switch alone := s.Address == localAddr; {
		case string(s.ID) != db.cfg.ID:
		case alone && db.cfg.Addr != "":
			return fmt.Errorf("%w: directory %s holds a store of a single member without Addr", ErrInvalidConfig, db.cfg.Dir)
		case !alone && db.cfg.Addr == "":
			return fmt.Errorf("%w: the cluster of directory %s knows this member at %s: Addr is missing", ErrInvalidConfig, db.cfg.Dir, s.Address)
		}
	}
	return nil
}

// firstKnown is the newest configuration known to be committed before raft
// runs; an empty one for a joiner.
func (db *DB) firstKnown() (c raft.Configuration, err error) {
	data, index := db.state.Config()
	if index == 0 {
		var l raft.Log
		err := db.guard.GetLog(1, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		data = l.Data
	}
	return decodeConfiguration(data)
}

func (db *DB) openTransport() (err error) {
	addr := db.cfg.Addr
	if addr == "" {
		addr = localAddr
	}
	db.trans, err = transport.New(transport.Config{
		ID: db.cfg.ID, Addr: addr,
		Cluster: db.id.cluster, Incarnation: db.id.incarnation, Since: db.id.since, Starts: db.id.transportStarts(),
		Resolve: db.peers.resolve, CheckPeer: db.checkPeer, CheckVote: db.checkVote,
		Dial: db.cfg.Dial, DialOptions: db.cfg.PeerDialOptions,
		TLS: db.cfg.PeerTLS, PeerID: db.cfg.PeerID, Insecure: db.cfg.InsecurePeers || db.cfg.Addr == "",
		Handler: peerHandler{db}, Unapplied: db.unapplied, Pace: db.pace, Logger: db.log,
		OverQuota: db.quota.verdict, HearQuota: db.quota.hear,
		Timeouts: transport.Timeouts{Heartbeat: db.cfg.ElectionTimeout, Confirm: db.cfg.ElectionTimeout,
			// The calls' own deadlines bound these; this one is for requests that nobody waits for.
			Request: max(db.cfg.RequestTimeout, time.Minute)},
	})
	return err
}

// unapplied returns the bytes of committed entries that wait for apply. Nobody
// is served before raft runs, so nobody asks.
func (db *DB) unapplied() int64 {
	return db.guard.BytesFrom(db.state.State().Index+1) - db.guard.BytesFrom(db.raft.CommitIndex()+1)
}

func (db *DB) listen() (err error) {
	db.listener = db.cfg.Listener
	if db.cfg.Listen != "" {
		db.listener, err = net.Listen("tcp", db.cfg.Listen)
	}
	return err
}

// parts makes what raft calls back.
func (db *DB) parts() {
	db.snaps = newSnapshots(db)
	db.leads = newLeaderWatch(db)
	db.entries = newEntryQueue(db)
	db.members, db.events = newMembers(db), newEvents(db)
	db.wlog = &watchedLog{Guard: db.guard, db: db}
	db.wlog.rebase(db.state.State())
	db.limits.db = db
	db.quota.init(db)
	db.writes = newWriter(db)
	db.reads = newReads(db)
	db.keepAlives.init(db, true)
	db.leaseLooks.init(db, false)
	db.watches = watch.NewHub(db.state, watch.Limits{})
	if first, err := db.guard.FirstIndex(); err == nil {
		db.snaps.logBytes.Store(db.guard.BytesFrom(first)) // a member that restarts often truncates, too
	}
	db.published()
}

func (db *DB) startRaft() error {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(db.cfg.ID)
	c.ElectionTimeout = db.cfg.ElectionTimeout
	c.HeartbeatTimeout = 10 * db.cfg.HeartbeatInterval // raft's leader beats at a tenth of it
	if db.cfg.Addr == "" {
		// Nobody to wait for: lead at once.
		c.ElectionTimeout, c.HeartbeatTimeout = 50*time.Millisecond, 50*time.Millisecond
	}
	c.LeaderLeaseTimeout = c.HeartbeatTimeout / 2
	c.CommitTimeout = min(10*time.Millisecond, db.cfg.HeartbeatInterval) // how late an idle follower learns of a commit
	c.MaxAppendEntries = 16
	c.BatchApplyCh = false
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true                       // the state is on disk, and ahead of any snapshot
	c.SnapshotThreshold = ^uint64(0) >> 1                   // by bytes, see snapshots
	c.SnapshotInterval = 24 * time.Hour                     //
	c.TrailingLogs = cmp.Or(db.cfg.edges.TrailingLogs, 128) // the guard keeps TrailingLogBytes
	c.NoLegacyTelemetry = true
	c.Logger = raftLog{log: db.log}
	err := db.guard.Start(func() (err error) {
		db.raft, err = raft.NewRaft(c, &fsm{db}, db.wlog, db.guard, db.snaps, watchedTransport{db.trans, db})
		return err
	})
	if err != nil {
		return err
	}
	db.wlog.raft.Store(db.raft)
	db.raft.RegisterObserver(db.leads.observer)
	return nil
}

// run starts every goroutine of the handle; teardown waits for them.
func (db *DB) run() {
	db.background(db.leads.run)
	if db.cfg.Addr != "" {
		db.background(db.leads.watchSilence)
	}
	db.background(db.writes.run)
	db.background(db.reads.run)
	db.background(func() { db.lessor.Run(db.ctx) })
	db.background(db.keepAlives.run)
	db.background(db.leaseLooks.run)
	db.background((&historian{db: db}).run)
	db.background(func() { db.watches.Run(db.ctx) })
	db.background(db.quota.run)
	db.background(db.quota.reclaim)
	db.background(db.proof.run)
	db.background(db.events.run)
	db.background(db.wlog.watch)
	db.background((&seeker{db: db}).run)
	db.background((&steward{db: db, warned: map[string]string{}, kept: map[string]bool{}}).run)
	db.taker.Go(db.snaps.run)
	for range entriesInFlight {
		db.workers.Go(db.entries.work)
	}
	if db.listener == nil {
		return
	}
	var opts []grpc.ServerOption
	if db.cfg.PeerTLS != nil {
		if db.cfg.PeerTLS.ClientAuth == tls.NoClientCert {
			db.cfg.PeerTLS.ClientAuth = tls.RequestClientCert // the handlers verify it
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(db.cfg.PeerTLS)))
	}
	db.server = grpc.NewServer(append(opts, ServerOptions()...)...)
	if err := db.trans.Register(db.server); err != nil {
		db.log.Error("peer service", "error", err) // a server of our own has no other services
	}
	db.background(func() {
		if err := db.server.Serve(db.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) && db.ctx.Err() == nil {
			db.fatal(fmt.Errorf("serve peers: %w", err))
		}
	})
}

// RegisterPeer mounts the service that the other members talk to on the
// application's own gRPC server. Call it before Serve; the handle needs
// neither Listen nor Listener then. ErrAlreadyRegistered if the server has
// one; ErrInvalidArgument if s is nil.
func (db *DB) RegisterPeer(s grpc.ServiceRegistrar) error {
	switch {
	case db.cfg.Addr == "":
		return fmt.Errorf("replkv: RegisterPeer: %w: a store without Addr has no peers", ErrInvalidConfig)
	case db.listener != nil:
		return fmt.Errorf("replkv: RegisterPeer: %w: the store serves its peers on %s itself", ErrAlreadyRegistered, db.listener.Addr())
	}
	if err := db.trans.Register(s); err != nil {
		return fmt.Errorf("replkv: RegisterPeer: %w", err)
	}
	return nil
}

// IsPeerMethod says whether a full gRPC method name belongs to the peer
// service, which authenticates its callers itself: the application's
// interceptors let it pass.
func IsPeerMethod(fullMethod string) bool { return transport.IsPeerMethod(fullMethod) }

// failpoint lets a test fail a step by name.
func (db *DB) failpoint(name string) error {
	if db.cfg.edges.Failpoint == nil {
		return nil
	}
	return db.cfg.edges.Failpoint(name)
}
