package replkv

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
)

// DirInfo says what the directory of a member holds that is not open.
type DirInfo struct {
	ID       string   // the member's
	Cluster  [16]byte // its id; zero: it has not joined one yet
	Members  []Member // of the cluster, by the newest configuration applied
	Revision Revision // of the newest change applied
	// Applied is the index of the newest log entry that is in the state on disk; the log
	// goes on from there. LastIndex and LastTerm are those of its last entry. Of the
	// directories that are left of a cluster, the one whose LastTerm, and then LastIndex,
	// is highest has all that any of them knows to be acknowledged.
	Applied, LastIndex, LastTerm uint64
	// Lost says what the directory had acknowledged and does not have, or that its cluster
	// had removed it; "" if nothing.
	Lost string
}

// Inspect says what cfg.Dir holds, the directory of a member that is not open. Of the rest
// of cfg it uses LogStore and Logger. Nothing is changed, but the log is opened, which
// cleans up behind a crash.
func Inspect(cfg Config) (DirInfo, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return DirInfo{}, fmt.Errorf("replkv: Inspect: %w", err)
	}
	d, err := openStopped(&cfg, cfg.Dir)
	if err != nil {
		return DirInfo{}, fmt.Errorf("replkv: Inspect %s: %w", cfg.Dir, err)
	}
	info, err := d.info()
	if err = errors.Join(err, d.Close()); err != nil {
		return DirInfo{}, fmt.Errorf("replkv: Inspect %s: %w", cfg.Dir, err)
	}
	return info, nil
}

// Recover is for a cluster that has lost its majority for good. It makes cfg.Dir, which
// must be empty or not there, the directory of a member of a new cluster, with what is in
// the directory from, of a member that is not open, and changes nothing there (but see
// Inspect, which tells which one to take). All of Restore's documentation holds, with from
// in place of the backup: mostly, one member is recovered with itself alone in
// InitialCluster, and others join it.
//
// What the log in from holds counts as done, though nobody can tell whether it was
// acknowledged: a write that was OutcomeUnknown may be there. What was acknowledged by
// others alone is lost. Make sure that the old members never come back: they would not
// take part in the new cluster, which has another id, but with each other go on with the
// old one.
func Recover(ctx context.Context, cfg Config, from string) (BackupInfo, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return BackupInfo{}, fmt.Errorf("replkv: Recover: %w", err)
	}
	info, err := found(cfg, func(dir string, o store.Options) (*store.Store, store.StreamInfo, error) {
		d, err := openStopped(&cfg, from)
		if err != nil {
			return nil, store.StreamInfo{}, fmt.Errorf("%s: %w", from, err)
		}
		s, info, err := d.copy(ctx, dir, o)
		if lost := d.lost(info.State.Index); err == nil && lost != "" {
			cfg.Logger.Warn("what is recovered from is not whole", "dir", from, "lost", lost)
		}
		if cerr := d.Close(); cerr != nil && err == nil {
			return nil, info, errors.Join(cerr, s.Close())
		}
		return s, info, err
	})
	if err != nil {
		return BackupInfo{}, fmt.Errorf("replkv: Recover %s: %w", cfg.Dir, err)
	}
	return info, nil
}

// stopped is the directory of a member that is not open.
type stopped struct {
	lock        io.Closer
	id          *identity
	state       *store.Checkpoint
	floor       raftlog.FloorState
	log         LogStore // nil: it could not be opened
	first, last uint64   // of the log; 0: it is empty, or not of this state
}

func openStopped(cfg *Config, dir string) (*stopped, error) {
	fs := cfg.edges.FS
	b, err := disk.ReadFile(fs, fs.PathJoin(dir, identityName), 4096)
	if err != nil {
		return nil, err // before a lock's file is made where there is no member
	}
	d := &stopped{}
	if d.id, err = decodeIdentity(b); err != nil {
		return nil, err
	}
	if d.lock, err = disk.Lock(fs, dir); err != nil {
		return nil, err
	}
	if err := d.open(cfg, dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *stopped) open(cfg *Config, dir string) (err error) {
	fs := cfg.edges.FS
	if d.state, err = store.Stopped(fs.PathJoin(dir, stateName), store.Options{FS: fs, Logger: cfg.Logger}); err != nil {
		return err
	}
	floor, _, err := raftlog.OpenFloor(fs, fs.PathJoin(dir, floorName))
	if err != nil {
		return err
	}
	d.floor = floor.State()
	if err := floor.Close(); err != nil {
		return err
	}
	if d.log, err = cfg.openLogStore(dir, d.floor.Term); err != nil {
		return err
	}
	return d.bounds()
}

// bounds finds what of the log goes on from the state, as a start would (preflight).
func (d *stopped) bounds() (err error) {
	first, err := d.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := d.log.LastIndex()
	if err != nil {
		return err
	}
	st := d.state.State
	switch {
	case last <= st.Index:
		return nil
	case first > st.Index+1:
		return fmt.Errorf("%w: the log begins at %d, the state ends at %d: the entries between are gone", ErrCorrupt, first, st.Index)
	case first <= st.Index:
		var l raft.Log
		if err := d.log.GetLog(st.Index, &l); err != nil || l.Term != st.Term {
			return err // another term: a start would drop the log
		}
	}
	d.first, d.last = st.Index+1, last
	return nil
}

func (d *stopped) info() (info DirInfo, err error) {
	st := d.state.State
	info = DirInfo{ID: d.id.id, Cluster: d.id.cluster, Revision: st.Revision, Applied: st.Index, LastIndex: st.Index, LastTerm: st.Term}
	if d.last > 0 {
		var l raft.Log
		if err := d.log.GetLog(d.last, &l); err != nil {
			return info, err
		}
		info.LastIndex, info.LastTerm = l.Index, l.Term
	}
	if st.ConfigIndex > 0 {
		c, err := decodeConfiguration(d.state.Config)
		if err != nil {
			return info, err
		}
		info.Members = membersOf(c)
	}
	info.Lost = d.lost(info.LastIndex)
	return info, nil
}

// lost says what is missing, of a directory that has the log up to last.
func (d *stopped) lost(last uint64) string {
	switch had := max(d.floor.Index, d.floor.Applied); {
	case d.id.refused != notRefused:
		return "its cluster had refused the directory, and gone on without it"
	case d.id.lost:
		return "at an earlier start it had lost what it had acknowledged"
	case had > last:
		return fmt.Sprintf("it had entries up to %d", had)
	}
	return ""
}

// copy makes a store in dir of the state and the log.
func (d *stopped) copy(ctx context.Context, dir string, o store.Options) (*store.Store, store.StreamInfo, error) {
	s, info, err := store.Restore(dir, o, &ctxReader{ctx, d.state.Reader(d.id.cluster)})
	if err != nil {
		return nil, info, err
	}
	if err := d.replay(ctx, s); err != nil {
		return nil, info, errors.Join(err, s.Close())
	}
	info.State = s.State()
	info.Config, _ = s.Config()
	return s, info, nil
}

// replayBytes is how much of the log is applied at a time.
const replayBytes = 4 << 20

// replay applies the log, all of it: what was acknowledged may be at its end.
func (d *stopped) replay(ctx context.Context, s *store.Store) error {
	if d.last == 0 {
		return nil
	}
	var batch []store.Entry
	var l raft.Log
	bytes := 0
	for i := d.first; i <= d.last; i++ {
		l = raft.Log{}
		if err := d.log.GetLog(i, &l); err != nil {
			return err
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration { // as raft hands them on
			e, err := entryOf(&l)
			if err != nil {
				return err
			}
			batch, bytes = append(batch, e), bytes+len(l.Data)
		}
		if bytes < replayBytes && i < d.last {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := s.Apply(batch); err != nil {
			return err
		}
		batch, bytes = batch[:0], 0
	}
	return s.Advance(l.Index, l.Term)
}

// Close lets go of all.
func (d *stopped) Close() error {
	var err error
	if d.log != nil {
		err = closeLogStore(d.log)
	}
	return errors.Join(err, d.lock.Close())
}
