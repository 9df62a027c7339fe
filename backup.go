package replkv

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
)

// BackupInfo says what a backup holds.
type BackupInfo struct {
	// Cluster is the id of the cluster whose data it is.
	Cluster [16]byte
	// Revision is that of the newest change in it: all of them up to this one are.
	Revision Revision
	// Index and Term are those of the newest log entry that went into it.
	Index, Term uint64
	Members     []Member // of the cluster, by then
	Bytes       int64    // its length
}

func backupInfo(s store.StreamInfo) (BackupInfo, error) {
	b := BackupInfo{Cluster: s.Cluster, Revision: s.State.Revision, Index: s.State.Index, Term: s.State.Term, Bytes: s.Bytes}
	c, err := decodeConfiguration(s.Config)
	b.Members = membersOf(c)
	return b, err
}

// Backup writes all data, as of one revision, to w, on any member, while the store is at
// work. All that was acknowledged before the call is in it, unless an option says
// otherwise: with Local, this member's own state will do, which needs no quorum.
//
// Restore makes a new cluster of it; VerifyBackup checks it. What is written is whole, and
// has checksums throughout; who encrypts, compresses or uploads does it in w.
//
// The files are frozen by links, and read at SnapshotRateBytes, together with what
// followers are sent. Until Backup returns, they take disk that compactions would have
// freed. It takes as long as it takes: only ctx and w bound it. Errors of w are returned as
// they are, wrapped. ErrOverloaded: too many backups and feeds of followers at once.
// It may be called again; what an error leaves in w is of no use.
func (db *DB) Backup(ctx context.Context, w io.Writer, opts ...ReadOption) (BackupInfo, error) {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	fail := func(err error) (BackupInfo, error) {
		return BackupInfo{}, db.callError("Backup", OutcomeNotDone, ctxError(ctx, err))
	}
	if err := db.check(ctx); err != nil {
		return fail(err)
	}
	if o.Revision != 0 {
		return fail(fmt.Errorf("%w: a backup is as of the newest revision", ErrInvalidArgument))
	}
	if err := db.barrier(ctx, &o); err != nil {
		return fail(err)
	}
	c, err := db.checkpoint(ctx)
	if err != nil {
		return fail(err)
	}
	defer db.drop(c)
	info, err := backupInfo(c.Info(db.cluster()))
	if err != nil {
		return fail(err)
	}
	db.log.Info("backup begins", "revision", info.Revision, "bytes", info.Bytes)
	if err := db.copyBackup(ctx, w, c); err != nil {
		return fail(err)
	}
	db.log.Info("backup written", "revision", info.Revision, "bytes", info.Bytes)
	return info, nil
}

// checkpoint makes one; if ctx ends, the disk may take its time.
func (db *DB) checkpoint(ctx context.Context) (*store.Checkpoint, error) {
	type made struct {
		c   *store.Checkpoint
		err error
	}
	done := make(chan made)
	go func() {
		c, err := db.state.Checkpoint()
		select {
		case done <- made{c, err}:
		case <-ctx.Done():
			db.drop(c)
		case <-db.ctx.Done():
			db.drop(c)
		}
	}()
	select {
	case m := <-done:
		return m.c, m.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-db.ctx.Done():
		return nil, db.stopped()
	}
}

func (db *DB) drop(c *store.Checkpoint) {
	if c == nil {
		return
	}
	if err := c.Close(); err != nil {
		db.log.Warn("a checkpoint stays on the disk until the next start", "error", err)
	}
}

func (db *DB) copyBackup(ctx context.Context, w io.Writer, c *store.Checkpoint) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(db.ctx, func() { cancel(db.stopped()) })()
	r := c.Reader(db.cluster())
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, &pacedReader{ctx, r, &db.snaps.rate}, make([]byte, 64<<10))
	return errors.Join(err, r.Close())
}

// pacedReader reads no faster than the rate, until ctx ends.
type pacedReader struct {
	ctx  context.Context
	r    io.Reader
	rate *byteRate
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err == nil {
		err = p.rate.wait(p.ctx, n)
	}
	if err == nil && p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// VerifyBackup reads a backup to its end, checks it, and says what it holds. ErrCorrupt:
// it is damaged, or none; ErrFormatTooNew: a newer version wrote it; io.ErrUnexpectedEOF:
// its end is missing.
func VerifyBackup(r io.Reader) (BackupInfo, error) {
	s, err := store.ReadStream(r)
	var info BackupInfo
	if err == nil {
		info, err = backupInfo(s)
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("replkv: VerifyBackup: %w", err)
	}
	return info, nil
}
