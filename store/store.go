package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// Store is the state machine. One goroutine at a time applies or installs;
// any number read.
type Store struct {
	dir  string
	opts Options
	// nonce is part of the names of checkpoints: one may be deleted after the store has
	// closed, when another store has the directory.
	nonce string

	eng   atomic.Pointer[engine] // nil once closed
	state atomic.Pointer[State]  // of the last committed batch
	looks atomic.Int64           // operations of apply, and the rows that they read

	// apply serialises Apply, Advance and Install, and guards what they own.
	apply struct {
		sync.Mutex
		applier applier
	}

	members atomic.Pointer[members] // of the last committed batch; never changed
	leases  leaseTable
	recent  atomic.Pointer[recent] // the live engine's
	size    struct {
		asked atomic.Bool // Pebble; it has not answered yet
		known atomic.Int64
	}
	janitor *janitor

	mu struct {
		sync.Mutex
		config          []byte // newest configuration applied
		configIndex     uint64
		fatal           error // first fatal error; sticky
		broken          bool  // Pebble failed: a parked goroutine may hold its mutex
		closing         bool
		checkpoints     []*Checkpoint // open ones
		checkpointCount int           // and those in the making
		serial          int           // names of temporary directories
	}
}

// The names in a store's directory. CURRENT holds the name of the live engine
// directory and is replaced by rename.
const (
	currentName    = "CURRENT"
	enginePrefix   = "db-"
	tempPrefix     = "tmp-"
	checkpointsDir = "checkpoints"
)

// Open opens the store in dir, creating it if it is not there, and removes
// what a crash left over. The caller holds a lock on a directory above it.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{dir: dir, opts: o, nonce: rand.Text()[:8]}
	if err := disk.MkdirAll(o.FS, dir); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	name, err := s.currentEngine()
	if err != nil {
		return nil, err
	}
	if err := s.removeLeftovers(name); err != nil {
		return nil, err
	}
	eng, err := openEngine(o.FS.PathJoin(dir, name), o, false, s.engineFailed, s.fail)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(eng); err != nil {
		return nil, errors.Join(err, eng.db.Close())
	}
	s.janitor = startJanitor(s)
	return s, nil
}

// currentEngine reads CURRENT; for a new store it writes it first.
func (s *Store) currentEngine() (string, error) {
	fs := s.opts.FS
	b, err := disk.ReadFile(fs, fs.PathJoin(s.dir, currentName), 256)
	if err == nil {
		name := strings.TrimSuffix(string(b), "\n")
		if !strings.HasPrefix(name, enginePrefix) || strings.ContainsAny(name, "/\\") {
			return "", fmt.Errorf("%w: state: %s says %q", kv.ErrCorrupt, currentName, b)
		}
		if _, err := fs.Stat(fs.PathJoin(s.dir, name)); err != nil {
			return "", fmt.Errorf("%w: state: %s names a directory that is not there: %w", kv.ErrCorrupt, currentName, err)
		}
		return name, nil
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		return "", fmt.Errorf("state: %w", err)
	}
	// CURRENT is written before an engine is first opened. Without it, what is
	// in an engine's directory has lost its owner, and must not be swept away.
	names, err := fs.List(s.dir)
	if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	for _, n := range names {
		if files, err := fs.List(fs.PathJoin(s.dir, n)); strings.HasPrefix(n, enginePrefix) && (err != nil || len(files) > 0) {
			return "", fmt.Errorf("%w: state: %s is missing, and %s holds data", kv.ErrCorrupt, currentName, n)
		}
	}
	name := enginePrefix + "000001"
	// Durable before CURRENT names it.
	if err := disk.MkdirAll(fs, fs.PathJoin(s.dir, name)); err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	return name, s.writeCurrent(name)
}

// writeCurrent makes name the live engine, atomically and durably.
func (s *Store) writeCurrent(name string) error {
	fs := s.opts.FS
	if err := disk.WriteFile(fs, fs.PathJoin(s.dir, currentName), []byte(name+"\n")); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// removeLeftovers deletes engines, checkpoints and temporary files that a
// crash left behind.
func (s *Store) removeLeftovers(current string) error {
	fs := s.opts.FS
	names, err := fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	slices.Sort(names)
	for _, n := range names {
		stale := n == checkpointsDir || n == currentName+".tmp" || strings.HasPrefix(n, tempPrefix) ||
			strings.HasPrefix(n, enginePrefix) && n != current
		if !stale {
			continue
		}
		if err := fs.RemoveAll(fs.PathJoin(s.dir, n)); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	return nil
}

// nextEngineName returns a name that follows cur.
func nextEngineName(cur string) string {
	n, _ := strconv.Atoi(strings.TrimPrefix(path.Base(cur), enginePrefix))
	return fmt.Sprintf("%s%06d", enginePrefix, n+1)
}

// adopt loads the state of eng and makes it the live one.
func (s *Store) adopt(eng *engine) error {
	st, err := loadState(eng.db)
	if err != nil {
		return err
	}
	config, err := getCopy(eng.db, configKey)
	if err != nil {
		return err
	}
	settings, err := loadSettings(eng.db)
	if err != nil {
		return err
	}
	sessions, err := loadSessions(eng.db)
	if err != nil {
		return err
	}
	members, err := loadMembers(eng.db)
	if err != nil {
		return err
	}
	leases, err := loadLeases(eng.db)
	if err != nil {
		return err
	}
	swept, err := loadSwept(eng.db)
	if err != nil {
		return err
	}
	eng.swept.Store(int64(swept))
	s.leases.adopt(leases)
	s.apply.applier.leases.adopt(leases)
	published := maps.Clone(members)
	s.members.Store(&published)
	s.apply.applier.adopt(s, st, settings, sessions, members)
	eng.recent = newRecent(recentSets, s.opts.CacheBytes/2)
	s.recent.Store(eng.recent)
	eng.removing.Store(int64(st.Compacted))
	s.mu.Lock()
	s.mu.config, s.mu.configIndex = config, st.ConfigIndex
	s.mu.Unlock()
	s.eng.Store(eng)
	s.state.Store(&st) // after the engine: who sees the index reads that state
	return nil
}

func loadState(r pebble.Reader) (State, error) {
	b, err := getCopy(r, stateKey)
	if err != nil {
		return State{}, err
	}
	if b == nil {
		return State{Revision: 1}, nil
	}
	return decodeState(b)
}

// getCopy returns the value of key, nil if it is absent.
func getCopy(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", asCorrupt(err))
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}

// Progress tells what an apply that takes long is at. Looks counts the operations, and
// the rows that they read. Stalled says whether writes wait because more is written than
// can be merged, and tables counts those that flushes and compactions have begun. While
// a count rises, there is progress. It takes no lock.
func (s *Store) Progress() (looks int64, stalled bool, tables int64) {
	looks = s.looks.Load()
	if e := s.eng.Load(); e != nil {
		stalled, tables = e.stalled.Load(), e.tables.Load()
	}
	return looks, stalled, tables
}

// State returns where the state machine stands.
func (s *Store) State() State { return *s.state.Load() }

// Config returns the newest configuration applied, opaque to the store, and
// the index of its entry; 0 if there was none.
func (s *Store) Config() ([]byte, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.config), s.mu.configIndex
}

// acquire returns the live engine with a reference.
func (s *Store) acquire() (*engine, error) {
	for {
		e := s.eng.Load()
		if e == nil {
			return nil, kv.ErrClosed
		}
		if e.tryAcquire() {
			return e, nil
		}
		// Swapped out between the two: the next load sees its successor.
	}
}

// engineFailed is what Pebble calls before it parks a goroutine for good.
func (s *Store) engineFailed(err error) {
	s.mu.Lock()
	s.mu.broken = true
	s.mu.Unlock()
	s.fail(err)
}

// fail records the first fatal error and reports it.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.mu.fatal == nil && !s.mu.closing
	if s.mu.fatal == nil {
		s.mu.fatal = err
	}
	s.mu.Unlock()
	if first {
		s.opts.OnFatal(err)
	}
}

// Err returns the first fatal error.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.fatal
}

// Flush makes everything applied durable and returns the durable index.
func (s *Store) Flush() (uint64, error) {
	e, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer e.release()
	if err := e.flush(); err != nil {
		return 0, err
	}
	return durableIndex(e.db)
}

// durableIndex reads the applied index that is in files.
func durableIndex(db *pebble.DB) (uint64, error) {
	st, _, err := durableState(db)
	return st.Index, err
}

// ErrEngineLeft is the answer of Close if the engine stays open until the
// process ends: Pebble failed, and cannot be closed.
var ErrEngineLeft = errors.New("the failed engine stays until the process ends")

// Close flushes and closes the store once its readers are gone. After a fatal
// error nothing is flushed. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	closing, fatal, broken := s.mu.closing, s.mu.fatal, s.mu.broken
	s.mu.closing = true
	s.mu.Unlock()
	if closing {
		return nil
	}
	if broken {
		s.janitor.cancel()
		s.eng.Store(nil)
		return ErrEngineLeft
	}
	s.janitor.stop()
	s.apply.Lock()
	e := s.eng.Swap(nil)
	s.apply.Unlock()
	var err error
	if fatal == nil {
		err = e.flush() // Pebble's Close does not
	}
	e.release()
	<-e.closed
	return errors.Join(err, e.closeErr)
}

// sizePatience is how long Size waits for Pebble, which answers at once unless its
// MANIFEST waits for the disk.
const sizePatience = 100 * time.Millisecond

// Size returns the bytes that the store's files take on disk; the last that is known, 0
// if none is, while the disk does not answer.
func (s *Store) Size() (int64, error) {
	e, err := s.acquire()
	if err != nil {
		return 0, err
	}
	if !s.size.asked.CompareAndSwap(false, true) { // and has not been answered
		e.release()
		return s.size.known.Load(), nil
	}
	done := make(chan struct{})
	go func() {
		defer e.release()
		s.size.known.Store(int64(e.db.Metrics().DiskSpaceUsage()))
		s.size.asked.Store(false)
		close(done)
	}()
	patience := time.NewTimer(sizePatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	return s.size.known.Load(), nil
}

// LiveSize returns the bytes of the files that hold the data, without those that
// compactions are writing, and those that they have read and that will be removed.
// What is in memory only is in no file.
func (s *Store) LiveSize() (int64, error) {
	e, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer e.release()
	var m *pebble.Metrics // takes Pebble's mutex
	if err := e.whileWell(func() error { m = e.db.Metrics(); return nil }); err != nil {
		return 0, err
	}
	return int64(m.Table.Local.LiveSize + m.BlobFiles.Local.LiveSize), nil
}
