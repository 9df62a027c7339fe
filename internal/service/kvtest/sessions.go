package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/kv"
)

// Sessions remembers what was done for which batch, as the state machine does.
type Sessions struct {
	mu     sync.Mutex // protects the fields below, and is held while a batch is done
	open   map[batch.Session]*session
	next   uint64
	opened int
}

type session struct {
	low     uint64
	batches map[uint64]*doneBatch
}

type doneBatch struct {
	writes  []batch.Write
	results []batch.Result
}

// window is how far a batch's number may be above the low-water mark.
const window = 64

// NewSessions returns an empty table.
func NewSessions() *Sessions {
	return &Sessions{open: make(map[batch.Session]*session)}
}

// Evict ends all sessions.
func (s *Sessions) Evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.open)
}

// Opened counts the sessions ever opened.
func (s *Sessions) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// OpenSession makes a Fake a backend of package service.
func (f *Fake) OpenSession(ctx context.Context) (id batch.Session, err error) {
	err = f.begin(ctx, "OpenSession")
	f.mu.Unlock()
	if err != nil {
		return id, err
	}
	s := f.Sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.opened++
	binary.BigEndian.PutUint64(id[:], s.next)
	s.open[id] = &session{batches: make(map[uint64]*doneBatch)}
	return id, nil
}

// Write makes a Fake a backend of package service. Before is called with "Write"
// and fails the batch; its operations count as calls of their own.
func (f *Fake) Write(ctx context.Context, b *batch.Batch) ([]batch.Result, error) {
	err := f.begin(ctx, "Write")
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	results, err := f.once(b)
	if err == nil && f.After != nil {
		err = f.After(ctx, "Write")
	}
	if err != nil {
		return nil, fail("Write", err)
	}
	return results, nil
}

// once does a batch unless it is done.
func (f *Fake) once(b *batch.Batch) ([]batch.Result, error) {
	f.Sessions.mu.Lock()
	defer f.Sessions.mu.Unlock()
	s := f.Sessions.open[b.Session]
	switch {
	case s == nil:
		return nil, kv.ErrSessionNotFound
	case b.Seq <= s.low:
		return nil, &kv.Error{Op: "Write", Err: kv.ErrOutcomeUnknown}
	case b.Seq > max(s.low, b.LowWater)+window:
		return nil, fmt.Errorf("%w: batch %d is above the window", kv.ErrInvalidArgument, b.Seq)
	}
	if done := s.batches[b.Seq]; done != nil {
		if !slices.EqualFunc(done.writes, b.Writes, same) {
			return nil, fmt.Errorf("%w: another batch has the number %d", kv.ErrInvalidArgument, b.Seq)
		}
		return slices.Clone(done.results), nil
	}
	done := &doneBatch{writes: b.Writes}
	for i := range b.Writes {
		done.results = append(done.results, f.write(&b.Writes[i]))
	}
	s.batches[b.Seq] = done
	for s.low < b.LowWater {
		s.low++
		delete(s.batches, s.low)
	}
	return slices.Clone(done.results), nil
}

func same(a, b batch.Write) bool {
	return a.Op == b.Op && a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Range == b.Range && a.Set == b.Set && a.Delete == b.Delete &&
		a.Lease == b.Lease && a.TTL == b.TTL && a.Revision == b.Revision && reflect.DeepEqual(a.Txn, b.Txn)
}

// write does an operation. Once its batch is taken nothing stops it.
func (f *Fake) write(w *batch.Write) (r batch.Result) {
	ctx := context.WithValue(context.Background(), inBatch{}, true)
	switch {
	case w.Refused != nil:
		r.Err = fail(w.Op, w.Refused)
	case w.Op == "Set":
		var opts []kv.SetOption
		if w.Set.Conditional {
			opts = append(opts, kv.IfRevision(w.Set.IfRevision))
		}
		if w.Set.Lease != 0 {
			opts = append(opts, kv.WithLease(w.Set.Lease))
		}
		r.Revision, r.Err = f.Set(ctx, w.Key, w.Value, opts...)
	case w.Op == "Txn":
		r.Txn, r.Err = f.Txn(ctx, w.Txn)
		r.Revision = r.Txn.Revision
	case w.Op == "Grant":
		_, r.Err = f.Grant(ctx, w.TTL, kv.WithLeaseID(w.Lease))
	case w.Op == "Compact":
		r.Err = f.Compact(ctx, w.Revision)
	case w.Op == "Revoke":
		r.Err = f.Revoke(ctx, w.Lease)
	default:
		var opts []kv.DeleteOption
		if w.Delete.Conditional {
			opts = append(opts, kv.IfRevision(w.Delete.IfRevision))
		}
		if w.Delete.ReturnPrev {
			opts = append(opts, kv.ReturnPrev())
		}
		if w.Op == "Delete" {
			r.DeleteResult, r.Err = f.Delete(ctx, w.Key, opts...)
		} else {
			r.DeleteResult, r.Err = f.DeleteRange(ctx, w.Range, opts...)
		}
	}
	return r
}

// inBatch marks the ctx of an operation of a batch, before which Before was
// called.
type inBatch struct{}
