package replkv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// Restore makes cfg.Dir, which must be empty or not there, the directory of a member of a
// new cluster with the data of a backup; Open, with the same Config, opens it. Each
// member in cfg.InitialCluster is given the same backup; or one is, with itself alone in
// InitialCluster, and the others join it. It says what the backup holds.
//
// The new cluster has an id of its own, made of the backup, InitialCluster and
// ClusterToken: members of the old one, and those restored from another backup, are
// refused. To restore one backup twice under the same addresses, change ClusterToken.
// Revisions go on far above those of the old cluster, wherever that had got to since the
// backup, and its history is compacted: a client that remembers a revision of the old one
// gets ErrCompacted from Watch, AtRevision and Update, and reads what is there now.
// Sessions are gone: a write that was under way by then is ErrOutcomeUnknown. Leases are
// there, with what was left of them.
//
// If it fails, or the process dies, Restore may be called again; until then Open does not
// take what is there. (It may be complete, if only its last sync failed; then Restore says
// that the directory is not empty.) Errors: ErrInvalidConfig, also for a directory that is not empty;
// ErrDirLocked; ErrCorrupt and io.ErrUnexpectedEOF, of a damaged backup; ErrFormatTooNew;
// those of r, of the disk, and of ctx.
func Restore(ctx context.Context, cfg Config, r io.Reader) (BackupInfo, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return BackupInfo{}, fmt.Errorf("replkv: Restore: %w", err)
	}
	info, err := found(cfg, func(dir string, o store.Options) (*store.Store, store.StreamInfo, error) {
		return store.Restore(dir, o, &ctxReader{ctx, r})
	})
	if err != nil {
		return BackupInfo{}, fmt.Errorf("replkv: Restore %s: %w", cfg.Dir, err)
	}
	return info, nil
}

// ctxReader reads until ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// foundingName is a file that is there while a directory is being founded: what lies
// beside it is of no use to anybody without an identity, which comes last.
const foundingName = "restoring"

// founding makes the directory of a member of a new cluster from data that is there.
type founding struct {
	cfg *Config
	fs  disk.FS
}

// found makes a directory whose state fill provides.
func found(cfg Config, fill func(dir string, o store.Options) (*store.Store, store.StreamInfo, error)) (info BackupInfo, err error) {
	if len(cfg.Join) > 0 || cfg.Addr != "" && len(cfg.InitialCluster) == 0 {
		return info, fmt.Errorf("%w: with an Addr, InitialCluster says who the members of the new cluster are, and Join nothing", ErrInvalidConfig)
	}
	f := &founding{&cfg, cfg.edges.FS}
	if err := disk.MkdirAll(f.fs, cfg.Dir); err != nil {
		return info, err
	}
	lock, err := disk.Lock(f.fs, cfg.Dir)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := f.begin(); err != nil {
		return info, err
	}
	if info, err = f.make(fill); err != nil {
		return info, errors.Join(err, f.discard())
	}
	if err := f.remove(foundingName); err != nil { // beside an identity it says nothing
		cfg.Logger.Warn("a file stays", "name", f.path(foundingName), "error", err)
	}
	return info, nil
}

// begin sees to it that the directory is empty, and says that it is being made.
func (f *founding) begin() error {
	names, err := f.fs.List(f.cfg.Dir)
	if err != nil {
		return err
	}
	if slices.Contains(names, foundingName) && !slices.Contains(names, identityName) {
		if err := f.discard(); err != nil { // of one that was not done
			return err
		}
		if names, err = f.fs.List(f.cfg.Dir); err != nil {
			return err
		}
	}
	for _, n := range names {
		if n != "LOCK" {
			return fmt.Errorf("%w: directory %s holds %q: it must be empty", ErrInvalidConfig, f.cfg.Dir, n)
		}
	}
	return disk.Mark(f.fs, f.path(foundingName))
}

func (f *founding) path(name string) string { return f.fs.PathJoin(f.cfg.Dir, name) }

// discard removes what was made, its mark last.
func (f *founding) discard() error {
	// Durably before the rest: an identity says that all else is there.
	if err := f.remove(identityName); err != nil {
		return err
	}
	for _, name := range []string{identityName + ".tmp", floorName, floorName + ".tmp", logName, stateName} {
		if err := f.fs.RemoveAll(f.path(name)); err != nil {
			return err
		}
	}
	return errors.Join(disk.SyncDir(f.fs, f.cfg.Dir), f.remove(foundingName))
}

func (f *founding) remove(name string) error {
	return errors.Join(f.fs.RemoveAll(f.path(name)), disk.SyncDir(f.fs, f.cfg.Dir))
}

// make writes state, log and floor, and then who lives here.
func (f *founding) make(fill func(dir string, o store.Options) (*store.Store, store.StreamInfo, error)) (info BackupInfo, err error) {
	s, source, err := fill(f.path(stateName), store.Options{FS: f.fs, Logger: f.cfg.Logger, CacheBytes: f.cfg.CacheBytes})
	if err != nil {
		return info, err
	}
	if info, err = backupInfo(source); err == nil {
		c := firstConfiguration(f.cfg.firstMembers())
		err = s.Found(raft.EncodeConfiguration(c), refs(c))
	}
	st := s.State()
	if err = errors.Join(err, s.Close()); err != nil {
		return info, err
	}
	if err := errors.Join(f.log(st.Term), f.floor(st)); err != nil {
		return info, err
	}
	return info, f.identity(source, st)
}

// log makes the log, empty, with its term: as it is after a snapshot was installed.
func (f *founding) log(term uint64) error {
	l, err := f.cfg.LogStore(f.path(logName))
	if err != nil {
		return err
	}
	return errors.Join(l.SetUint64([]byte("CurrentTerm"), term), closeLogStore(l))
}

func (f *founding) floor(st store.State) error {
	floor, _, err := raftlog.OpenFloor(f.fs, f.path(floorName))
	if err != nil {
		return err
	}
	return errors.Join(floor.Write(raftlog.FloorState{Term: st.Term, Index: st.Index, IndexTerm: st.Term, Applied: st.Index}), floor.Close())
}

// identity settles who lives here, after all else is durable.
func (f *founding) identity(source store.StreamInfo, st store.State) error {
	members := f.cfg.firstMembers()
	d := &identity{id: f.cfg.ID, token: tokenHash(f.cfg.ClusterToken), begun: true, founded: true, since: st.Index,
		settled: len(members) == 1, cluster: foundedID(f.cfg.ClusterToken, members, source.Cluster, st)}
	if _, err := rand.Read(d.incarnation[:]); err != nil {
		return err
	}
	return d.save(f.cfg)
}
