package store

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// StreamInfo is what a stream says of itself.
type StreamInfo struct {
	Cluster [16]byte // whose state it is
	State   State
	Config  []byte
	Bytes   int64 // of the whole stream
}

func (h *streamHeader) info() StreamInfo {
	return StreamInfo{Cluster: h.cluster, State: h.state, Config: h.config, Bytes: h.size()}
}

// ReadStream reads a checkpoint's stream to its end and checks it. Errors wrap
// kv.ErrCorrupt or kv.ErrFormatTooNew where that is the cause.
func ReadStream(r io.Reader) (StreamInfo, error) {
	h, err := readStreamHeader(r)
	if err != nil {
		return StreamInfo{}, err
	}
	buf := make([]byte, 256<<10)
	err = readFiles(r, h, func(_ fileInfo, contents io.Reader) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, contents, buf)
		return err
	})
	if err == nil {
		err = atEnd(r)
	}
	return h.info(), err
}

// atEnd says whether nothing follows: a backup that something was appended to is not
// what was written.
func atEnd(r io.Reader) error {
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("%w: snapshot stream goes on after its end", kv.ErrCorrupt)
	case err != io.EOF:
		return err
	}
	return nil
}

// Restore makes a new store in dir, which must be empty or not there, of a checkpoint's
// stream, and opens it. If it fails, or the process ends, what is in dir is of no use, and
// the caller sees to it that nobody opens it.
func Restore(dir string, o Options, r io.Reader) (*Store, StreamInfo, error) {
	o = o.withDefaults()
	s := &Store{dir: dir, opts: o}
	if err := disk.MkdirAll(o.FS, dir); err != nil {
		return nil, StreamInfo{}, fmt.Errorf("state: %w", err)
	}
	in, err := s.Receive(r)
	if err != nil {
		return nil, StreamInfo{}, err
	}
	if err := atEnd(r); err != nil {
		return nil, StreamInfo{}, err
	}
	name := enginePrefix + "000001"
	if err := errors.Join(o.FS.Rename(in.dir, o.FS.PathJoin(dir, name)), disk.SyncDir(o.FS, dir)); err != nil {
		return nil, StreamInfo{}, fmt.Errorf("state: %w", err)
	}
	if err := s.writeCurrent(name); err != nil {
		return nil, StreamInfo{}, err
	}
	if s, err = Open(dir, o); err != nil {
		return nil, StreamInfo{}, err
	}
	config, _ := s.Config()
	if err := in.check(s.State(), config); err != nil {
		return nil, StreamInfo{}, errors.Join(err, s.Close())
	}
	return s, in.StreamInfo, nil
}

// Stopped is the state in a directory that no store has open, as a checkpoint.
// Nothing there is written, but for the lock file of the engine.
func Stopped(dir string, o Options) (*Checkpoint, error) {
	s := &Store{dir: dir, opts: o.withDefaults()}
	fs := s.opts.FS
	// Before currentEngine, which makes a store where there is none.
	if _, err := fs.Stat(fs.PathJoin(dir, currentName)); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	name, err := s.currentEngine()
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{s: s, dir: fs.PathJoin(dir, name), stopped: true}
	if c.State, c.Config, err = s.readCheckpoint(c.dir); err != nil {
		return nil, err
	}
	if c.files, err = listFiles(s.opts, c.dir); err != nil {
		return nil, err
	}
	return c, nil
}

// foundingGap is how far a founding raises the revision. Why so far: the cluster before
// may have gone on after its backup, and nothing that its clients remember may be taken
// for something of the new one, which would need a million revisions a second for twelve
// days. Why not further: JSON's numbers are exact to 2^53, which leaves room for 9,000.
const foundingGap = 1_000_000_000_000

// Found makes the state that of a new cluster, whose configuration is config, with these
// members. It counts as the entry after the one applied last, of a term of its own. What
// was between the old members, and between them and their clients, is gone: who speaks for
// a member, and all sessions. The revision rises by a trillion, and all history is
// compacted: what clients of the old cluster remember, among it revisions that this state
// never saw, is answered with ErrCompacted, and not with something else. Leases stay.
//
// Equal states have equal successors. Found is durable when it returns.
func (s *Store) Found(config []byte, members []Ref) error {
	if err := s.found(config, members); err != nil {
		return err
	}
	_, err := s.Flush()
	return err
}

func (s *Store) found(config []byte, members []Ref) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	st := s.State()
	if st.Revision > math.MaxInt64-2*foundingGap {
		return fmt.Errorf("%w: revision %d leaves no room for another", kv.ErrInvalidArgument, st.Revision)
	}
	eng, err := s.acquire()
	if err != nil {
		return err
	}
	defer eng.release()
	a := &s.apply.applier
	a.begin(eng.db)
	if _, err = a.entry(&Entry{Index: st.Index + 1, Term: st.Term + 1, Kind: founding, Data: config, Refs: members}); err == nil {
		err = a.commit()
	}
	if err != nil {
		a.abandon()
		s.fail(err)
	}
	return err
}

// found applies a founding.
func (a *applier) found(e *Entry) error {
	for id := range a.sessions { // all of them, in whatever order
		if err := a.endSession(id); err != nil {
			return err
		}
	}
	for id := range a.members {
		if err := a.batch.Delete(memberKey(id), nil); err != nil {
			return err
		}
	}
	clear(a.members)
	a.st.Revision += foundingGap
	a.st.Compacted = a.st.Revision
	return a.configure(e.Index, e.Refs)
}
