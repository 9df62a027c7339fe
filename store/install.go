package store

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// Incoming is a received snapshot, whole, checked and durable, that waits for
// Install or Discard.
type Incoming struct {
	StreamInfo
	s   *Store
	dir string
}

// Receive reads a checkpoint's stream into a temporary directory and checks
// it. Nothing of the live state changes.
func (s *Store) Receive(r io.Reader) (*Incoming, error) {
	h, err := readStreamHeader(r)
	if err != nil {
		return nil, err
	}
	if err := s.checkSpace(h); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.mu.serial++
	in := &Incoming{StreamInfo: h.info(), s: s,
		dir: s.opts.FS.PathJoin(s.dir, fmt.Sprintf("%sincoming-%06d", tempPrefix, s.mu.serial))}
	s.mu.Unlock()
	if err := in.receive(r, h); err != nil {
		return nil, errors.Join(fmt.Errorf("receive snapshot: %w", err), in.Discard())
	}
	return in, nil
}

// checkSpace refuses a snapshot that would fill the disk: until the swap both
// states are there.
func (s *Store) checkSpace(h *streamHeader) error {
	var need int64
	for _, f := range h.files {
		need += f.size
	}
	du, err := s.opts.FS.GetDiskUsage(s.dir)
	if err == nil && uint64(need) > du.AvailBytes {
		return fmt.Errorf("receive snapshot: %d bytes needed, %d free in %s", need, du.AvailBytes, s.dir)
	}
	return nil
}

func (in *Incoming) receive(r io.Reader, h *streamHeader) error {
	fs := in.s.opts.FS
	if err := fs.MkdirAll(in.dir, 0o755); err != nil {
		return err
	}
	err := readFiles(r, h, func(f fileInfo, contents io.Reader) error {
		return receiveFile(fs, fs.PathJoin(in.dir, f.name), contents)
	})
	if err != nil {
		return err
	}
	return disk.SyncDir(fs, in.dir)
}

func receiveFile(fs vfs.FS, path string, contents io.Reader) error {
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// The kernel begins to write at once: else the sync at the end is long, and
	// the syncs of the raft log on the same disk wait for it.
	file = vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: 1 << 20, NoSyncOnClose: true})
	if _, err = io.CopyBuffer(struct{ io.Writer }{file}, contents, make([]byte, 256<<10)); err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Discard deletes what was received.
func (in *Incoming) Discard() error { return in.s.opts.FS.RemoveAll(in.dir) }

// Install makes the received snapshot the live state. All that can fail comes
// before the swap; readers of the old state finish on it. A snapshot at or
// below the applied index changes nothing: the live state is the same history
// and longer. Install consumes in, whatever it returns.
func (s *Store) Install(in *Incoming) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	old := s.eng.Load()
	if old == nil {
		return errors.Join(kv.ErrClosed, in.Discard())
	}
	if s.state.Load().Index >= in.State.Index {
		return in.Discard()
	}
	fs := s.opts.FS
	name := nextEngineName(old.dir)
	dir := fs.PathJoin(s.dir, name)
	if err := errors.Join(fs.RemoveAll(dir), fs.Rename(in.dir, dir), disk.SyncDir(fs, s.dir)); err != nil {
		return errors.Join(fmt.Errorf("install snapshot: %w", err), in.Discard(), fs.RemoveAll(dir))
	}
	eng, err := openEngine(dir, s.opts, false, s.engineFailed, s.fail)
	if err == nil {
		err = s.checkInstalled(eng, in)
		if err != nil {
			eng.release()
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install snapshot: %w", err), fs.RemoveAll(dir))
	}
	if err := s.writeCurrent(name); err != nil {
		// Which engine CURRENT names on disk is not known now: both must stay,
		// and this process must not go on with either.
		eng.release()
		s.fail(err)
		return fmt.Errorf("install snapshot: %w", err)
	}
	if err := s.adopt(eng); err != nil {
		s.fail(err) // after the pointer moved there is no way back
		return err
	}
	s.janitor.compacted() // what was swept before, another member did
	oldDir := old.dir
	old.onClose = func() {
		if err := fs.RemoveAll(oldDir); err != nil {
			s.opts.Logger.Warn("state: old engine stays on disk until the next start", "error", err)
		}
	}
	old.release()
	return nil
}

// checkInstalled compares what the files say with what the header said.
func (s *Store) checkInstalled(eng *engine, in *Incoming) error {
	st, err := loadState(eng.db)
	if err != nil {
		return err
	}
	if st != in.State {
		return fmt.Errorf("%w: snapshot files are at index %d, its header at %d", kv.ErrCorrupt, st.Index, in.State.Index)
	}
	return nil
}
