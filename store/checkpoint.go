package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// maxCheckpoints bounds the open checkpoints: each may keep files alive that
// compaction has replaced.
const maxCheckpoints = 4

// Checkpoint is a frozen copy of the store's files (hard links, so it costs
// next to nothing until compaction replaces the originals). Callers that ask
// at the same applied index share one. Close it.
type Checkpoint struct {
	State  State  // what the files say
	Config []byte // read only
	s      *Store
	dir    string
	files  []fileInfo
	refs   int // guarded by s.mu
	// stopped: the files are those of a store that is not open, and stay.
	stopped bool
}

type fileInfo struct {
	name string
	size int64
}

// Checkpoint flushes and freezes the store.
func (s *Store) Checkpoint() (*Checkpoint, error) {
	e, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer e.release()
	if c := s.shareCheckpoint(); c != nil {
		return c, nil
	}
	dir, err := s.reserveCheckpoint()
	if err != nil {
		return nil, err
	}
	c, err := s.makeCheckpoint(e, dir)
	if err != nil {
		s.mu.Lock()
		s.mu.checkpointCount--
		s.mu.Unlock()
		return nil, errors.Join(err, s.opts.FS.RemoveAll(dir))
	}
	s.mu.Lock()
	s.mu.checkpoints = append(s.mu.checkpoints, c)
	s.mu.Unlock()
	return c, nil
}

func (s *Store) shareCheckpoint() *Checkpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.mu.checkpoints {
		if c.State.Index == s.State().Index {
			c.refs++
			return c
		}
	}
	return nil
}

func (s *Store) reserveCheckpoint() (dir string, err error) {
	fs := s.opts.FS
	parent := fs.PathJoin(s.dir, checkpointsDir)
	s.mu.Lock()
	if s.mu.checkpointCount >= maxCheckpoints {
		s.mu.Unlock()
		return "", fmt.Errorf("%w: %d checkpoints are open", kv.ErrOverloaded, maxCheckpoints)
	}
	s.mu.checkpointCount++
	s.mu.serial++
	dir = fs.PathJoin(parent, fmt.Sprintf("%06d-%s", s.mu.serial, s.nonce))
	s.mu.Unlock()
	if err := fs.MkdirAll(parent, 0o755); err != nil {
		return dir, fmt.Errorf("state: checkpoint: %w", err)
	}
	return dir, nil
}

func (s *Store) makeCheckpoint(e *engine, dir string) (*Checkpoint, error) {
	c := &Checkpoint{s: s, dir: dir, refs: 1}
	// The files hold what was flushed, and another flush may land between ours
	// and the links: what counts is what the files say.
	if err := e.flush(); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	before, config, err := durableState(e.db)
	if err != nil {
		return nil, err
	}
	if err := e.checkpoint(dir); err != nil {
		return nil, fmt.Errorf("state: checkpoint: %w", err)
	}
	after, _, err := durableState(e.db)
	if err != nil {
		return nil, err
	}
	if before != after {
		if before, config, err = s.readCheckpoint(dir); err != nil {
			return nil, err
		}
	}
	c.State, c.Config = before, config
	if c.files, err = listFiles(s.opts, dir); err != nil {
		return nil, err
	}
	return c, nil
}

// readCheckpoint reads the state from the files of a checkpoint.
func (s *Store) readCheckpoint(dir string) (State, []byte, error) {
	e, err := openEngine(dir, s.opts, true, s.engineFailed, s.fail)
	if err != nil {
		return State{}, nil, err
	}
	st, err := loadState(e.db)
	config, err2 := getCopy(e.db, configKey)
	e.release()
	return st, config, errors.Join(err, err2, e.closeErr)
}

// durableState reads state and configuration from what is flushed.
func durableState(db *pebble.DB) (st State, config []byte, err error) {
	lower, upper := spaceBounds(spaceMeta)
	it, err := db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true, LowerBound: lower, UpperBound: upper})
	if err != nil {
		return st, nil, fmt.Errorf("state: %w", asCorrupt(err))
	}
	st.Revision = 1
	for ok := it.First(); ok; ok = it.Next() {
		switch {
		case bytes.Equal(it.Key(), stateKey):
			st, err = decodeState(it.Value())
		case bytes.Equal(it.Key(), configKey):
			config = bytes.Clone(it.Value())
		}
		if err != nil {
			break
		}
	}
	return st, config, errors.Join(err, asCorrupt(it.Error()), it.Close())
}

func listFiles(o Options, dir string) ([]fileInfo, error) {
	names, err := o.FS.List(dir)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	slices.Sort(names)
	var out []fileInfo
	for _, n := range names {
		st, err := o.FS.Stat(o.FS.PathJoin(dir, n))
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		if !st.IsDir() && n != "LOCK" { // an engine's that was open there
			out = append(out, fileInfo{n, st.Size()})
		}
	}
	return out, nil
}

// Close gives the checkpoint back; the last user's Close deletes it.
func (c *Checkpoint) Close() error {
	if c.stopped {
		return nil
	}
	s := c.s
	s.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last {
		s.mu.checkpointCount--
		s.mu.checkpoints = slices.DeleteFunc(s.mu.checkpoints, func(o *Checkpoint) bool { return o == c })
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return s.opts.FS.RemoveAll(c.dir)
}

// Info is what Reader's stream says of itself.
func (c *Checkpoint) Info(cluster [16]byte) StreamInfo { return c.header(cluster).info() }

// Size returns the exact length of the stream that Reader yields.
func (c *Checkpoint) Size(cluster [16]byte) int64 { return c.header(cluster).size() }

// Reader returns the checkpoint as a stream that Receive reads. It does not
// close the checkpoint.
func (c *Checkpoint) Reader(cluster [16]byte) io.ReadCloser {
	return &checkpointReader{c: c, chunk: bytes.NewReader(c.header(cluster).append(nil))}
}

// checkpointReader never returns bytes together with io.EOF, nor (0, nil):
// what consumes it (raft's transports) has bugs with both.
type checkpointReader struct {
	c     *Checkpoint
	chunk *bytes.Reader // header, checksum or trailer to be given out first
	file  io.ReadCloser
	sum   sum32
	left  int64 // of file
	next  int   // index into c.files
	ended bool
	once  sync.Once
}

func (r *checkpointReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.chunk.Len() > 0 {
			return r.chunk.Read(p)
		}
		switch {
		case r.file != nil && r.left > 0:
			n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
			r.sum.write(p[:n])
			r.left -= int64(n)
			if n > 0 {
				return n, nil
			}
			return 0, fmt.Errorf("state: checkpoint file %s: %w", r.c.files[r.next-1].name, noEOF(err))
		case r.file != nil:
			if err := r.file.Close(); err != nil {
				return 0, err
			}
			r.file = nil
			r.chunk.Reset(r.sum.bytes())
		case r.next < len(r.c.files):
			if err := r.open(); err != nil {
				return 0, err
			}
		case !r.ended:
			r.ended = true
			r.chunk.Reset([]byte(streamTrailer))
		default:
			return 0, io.EOF
		}
	}
}

func (r *checkpointReader) open() error {
	f := r.c.files[r.next]
	fs := r.c.s.opts.FS
	file, err := fs.Open(fs.PathJoin(r.c.dir, f.name))
	if err != nil {
		return fmt.Errorf("state: checkpoint: %w", err)
	}
	r.file, r.left, r.sum = file, f.size, sum32{}
	r.next++
	return nil
}

// Close closes the open file.
func (r *checkpointReader) Close() (err error) {
	r.once.Do(func() {
		if r.file != nil {
			err = r.file.Close()
		}
	})
	return err
}

func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
