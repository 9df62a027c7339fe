package replkv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/transport"
)

// snapshots is raft's snapshot store. There are no snapshot files: the state
// is the newest snapshot, List answers with where it stands, so that replay
// starts at the true applied index, and its files are copied only when a
// follower needs the bytes.
type snapshots struct {
	db *DB

	logBytes atomic.Int64  // applied since the last snapshot
	wake     chan struct{} // capacity 1: a snapshot is due
	feeds    feeds         // followers that are being sent the state
	rate     byteRate      // of all feeds together

	mu       sync.Mutex // protects the fields below
	incoming *store.Incoming
	received int64 // bytes of incoming
	serial   int
}

var errNoIncoming = errors.New("no snapshot has been received")

const (
	liveID         = "live" // the state itself
	incomingPrefix = "incoming-"
)

func newSnapshots(db *DB) *snapshots {
	s := &snapshots{db: db, wake: make(chan struct{}, 1), rate: byteRate{perSecond: db.cfg.SnapshotRateBytes}}
	s.feeds.commit = func() uint64 { return db.raft.CommitIndex() }
	return s
}

// applied counts log bytes, and asks for a snapshot when there are enough:
// raft's own threshold counts entries, which may be tiny or half a megabyte.
func (s *snapshots) applied(n int) {
	if s.logBytes.Add(int64(n)) >= s.db.cfg.SnapshotLogBytes {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run takes the snapshots that are due.
func (s *snapshots) run() {
	for {
		select {
		case <-s.db.ctx.Done():
			return
		case <-s.wake:
		}
		if err := s.take(); err != nil && s.db.ctx.Err() == nil {
			s.db.log.Warn("snapshot failed", "error", err)
		}
	}
}

// take makes the state durable and lets raft truncate its log.
func (s *snapshots) take() error {
	s.logBytes.Store(0)
	began := time.Now()
	err := s.db.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	index := s.db.state.State().Index
	if err == nil {
		s.db.counts.snapshotsTaken.Add(1)
		s.db.log.Info("snapshot taken", "index", index, "duration", time.Since(began))
	}
	s.db.events.snapshot(s.db.cfg.Events.SnapshotTaken, SnapshotEvent{Index: index, Duration: time.Since(began), Err: err})
	return err
}

// fsmSnapshot persists the state as it is when Persist runs, which is at or
// after the index that raft asked for.
type fsmSnapshot struct{ db *DB }

// Persist flushes. raft truncates its log right after it, so it must not
// return before durable(applied) >= the sink's index.
func (f *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	s := sink.(*snapshotSink)
	if err := f.db.failpoint("snapshot-persist"); err != nil {
		return err
	}
	if err := f.db.state.Advance(s.meta.Index, s.meta.Term); err != nil {
		return err
	}
	durable, err := f.db.state.Flush()
	if err != nil {
		return err
	}
	if durable < s.meta.Index {
		return fmt.Errorf("%w: after a flush the durable index is %d, below %d", ErrCorrupt, durable, s.meta.Index)
	}
	return nil
}

func (f *fsmSnapshot) Release() {}

// List answers with the state, if it has applied anything.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	st := s.db.state.State()
	if st.Index == 0 {
		return nil, nil
	}
	m, err := s.meta(liveID, st, 0)
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{m}, nil
}

func (s *snapshots) meta(id string, st store.State, size int64) (*raft.SnapshotMeta, error) {
	data, index := s.db.state.Config()
	if index == 0 {
		return nil, fmt.Errorf("%w: state at index %d has no configuration", ErrCorrupt, st.Index)
	}
	return snapshotMeta(id, st, data, index, size)
}

func snapshotMeta(id string, st store.State, config []byte, configIndex uint64, size int64) (m *raft.SnapshotMeta, err error) {
	c, err := decodeConfiguration(config)
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, ID: id, Index: st.Index, Term: st.Term,
		Configuration: c, ConfigurationIndex: configIndex, Size: size}, nil
}

// Open returns the state's files as a stream, for a follower, or, as raft does
// before Restore, what was received.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != liveID {
		return s.openIncoming(id)
	}
	c, err := s.db.state.Checkpoint()
	if err != nil {
		return nil, nil, err
	}
	m, err := snapshotMeta(id, c.State, c.Config, c.State.ConfigIndex, c.Size(s.db.id.cluster))
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	// The follower will need the log from here on, or it asks for the next
	// snapshot for ever: from the snapshot's own entry on, since raft reads the
	// term of the one before those that it sends.
	pin, held := s.db.guard.Pin(c.State.Index)
	if !held {
		s.db.log.Warn("the log after a snapshot is gone already", "index", c.State.Index)
	}
	// The larger the state, the longer the feed, and the more is written
	// meanwhile: a follower catches up if the log grows more slowly than it is fed.
	pin.Allow(m.Size)
	s.db.log.Info("sending snapshot", "index", m.Index, "bytes", m.Size)
	term := s.db.raft.CurrentTerm()
	return m, &feedReader{ReadCloser: c.Reader(s.db.id.cluster), c: c, pin: pin, rate: &s.rate, ctx: s.db.ctx,
		leads: func() bool { return s.db.raft.State() == raft.Leader && s.db.raft.CurrentTerm() == term }}, nil
}

func (s *snapshots) openIncoming(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	in := s.incoming
	s.mu.Unlock()
	if in == nil {
		return nil, nil, errNoIncoming
	}
	m, err := snapshotMeta(id, in.State, in.Config, in.State.ConfigIndex, 0)
	if err != nil {
		return nil, nil, err
	}
	return m, io.NopCloser(bytes.NewReader(nil)), nil
}

func (s *snapshots) takeIncoming() (in *store.Incoming, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, s.incoming = s.incoming, nil
	return in, s.received
}

// Create returns a sink: for Persist, which writes nothing to it, or for a
// snapshot that a leader sends, whose bytes are received and checked as they
// come.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	s.serial++
	id := fmt.Sprintf("%s%d", incomingPrefix, s.serial)
	s.mu.Unlock()
	return &snapshotSink{s: s, meta: raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex}}, nil
}

// snapshotSink receives on a goroutine of its own, which Close and Cancel
// wait for.
type snapshotSink struct {
	s    *snapshots
	meta raft.SnapshotMeta
	pipe *io.PipeWriter // nil until the first byte
	n    int64          // bytes received
	done chan struct{}
	in   *store.Incoming // valid after done
	err  error           // valid after done
}

func (k *snapshotSink) ID() string { return k.meta.ID }

// Write is called by raft's main goroutine, so the log is not written meanwhile.
func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.pipe == nil {
		if k.s.covers(k.meta.Index, k.meta.Term) {
			return 0, transport.ErrCovered
		}
		r, w := io.Pipe()
		k.pipe, k.done = w, make(chan struct{})
		go func() {
			defer close(k.done)
			k.in, k.err = k.s.db.state.Receive(r)
			r.CloseWithError(errors.Join(k.err, errTrailing))
		}()
	}
	n, err := k.pipe.Write(p)
	k.n += int64(n)
	return n, err
}

// covers says whether this member has all that is in a snapshot. One that was sent twice
// may come late; raft would go back to it, and empty the log with all that was
// acknowledged since (the thesis, figure 5.3, step 6: retain the log, and reply).
func (s *snapshots) covers(index, term uint64) bool {
	applied := s.db.state.State().Index
	if applied >= index {
		return true
	}
	first, err := s.db.guard.FirstIndex()
	var l raft.Log
	return err == nil && first <= applied+1 && s.db.guard.GetLog(index, &l) == nil && l.Term == term
}

var errTrailing = errors.New("snapshot stream goes on after its end")

// Close finishes the snapshot. raft calls Restore next.
func (k *snapshotSink) Close() error {
	if k.pipe == nil {
		return nil
	}
	k.pipe.Close()
	<-k.done
	if k.err != nil {
		return k.err
	}
	if k.in.Cluster != k.s.db.id.cluster {
		return errors.Join(fmt.Errorf("%w: the snapshot's", ErrWrongCluster), k.in.Discard())
	}
	if k.in.State.Index != k.meta.Index || k.in.State.Term != k.meta.Term {
		return errors.Join(fmt.Errorf("%w: snapshot of index %d, announced as %d", ErrCorrupt, k.in.State.Index, k.meta.Index), k.in.Discard())
	}
	k.s.mu.Lock()
	old := k.s.incoming
	k.s.incoming, k.s.received = k.in, k.n
	k.s.mu.Unlock()
	if old != nil {
		return old.Discard()
	}
	return nil
}

// Cancel drops what was received.
func (k *snapshotSink) Cancel() error {
	if k.pipe == nil {
		return nil
	}
	k.pipe.CloseWithError(errors.New("cancelled"))
	<-k.done
	if k.in != nil {
		return k.in.Discard()
	}
	return nil
}

// decodeConfiguration decodes raft's encoding; raft panics on garbage.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: configuration: %v", ErrCorrupt, p)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}
