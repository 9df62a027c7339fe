package replkv

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/raftlog"
)

// feedReader is a checkpoint on its way to a follower.
type feedReader struct {
	io.ReadCloser
	c     *store.Checkpoint
	pin   *raftlog.Pin
	rate  *byteRate
	ctx   context.Context // the store's
	leads func() bool     // still, in the term in which the feed began
	once  sync.Once
}

var errNoLongerLeader = errors.New("this member does not lead any more")

// Read keeps to the rate. It is given the parts of one message, and returns
// each only when the rate allows, so the stream makes steady progress and its
// stall timers do not fire.
func (r *feedReader) Read(p []byte) (int, error) {
	// raft does not end a stream when another member is elected, and the
	// follower's main loop answers nobody until the stream is over.
	if !r.leads() {
		return 0, errNoLongerLeader
	}
	n, err := r.ReadCloser.Read(p)
	if err == nil {
		if err = r.rate.wait(r.ctx, n); err != nil {
			return 0, err // never bytes together with an error
		}
	}
	r.pin.Touch()
	return n, err
}

// Close frees the files. The pin stays: the follower has yet to read the log
// after the snapshot (see feeds).
func (r *feedReader) Close() (err error) {
	r.once.Do(func() { err = errors.Join(r.ReadCloser.Close(), r.c.Close()) })
	return err
}
