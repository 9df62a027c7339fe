package kvtest

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/replkv/replkv/kv"
)

// Compacting is what RunCompact tests.
type Compacting interface {
	kv.KV
	Compact(ctx context.Context, rev kv.Revision) error
}

// RunCompact checks what the handle and its client have in common. s is empty.
func RunCompact(t *testing.T, s Compacting) {
	ctx := t.Context()
	for i := range 5 { // revisions 2 to 6
		set(t, s, "k", string(rune('a'+i)))
		if i == 1 {
			if _, err := s.Delete(ctx, "k"); err != nil { // revision 4
				t.Fatal(err)
			}
		}
	}
	want(t, s.Compact(ctx, 0), kv.ErrInvalidArgument)
	want(t, s.Compact(ctx, math.MinInt64), kv.ErrInvalidArgument)
	want(t, s.Compact(ctx, 8), kv.ErrFutureRevision)
	want(t, s.Compact(ctx, math.MaxInt64), kv.ErrFutureRevision)
	for rev := kv.Revision(1); rev <= 7; rev++ {
		if _, err := s.Get(ctx, "k", kv.AtRevision(rev)); err != nil && !errors.Is(err, kv.ErrNotFound) {
			t.Errorf("before a compaction, at %d: %v", rev, err)
		}
	}
	if err := s.Compact(ctx, 6); err != nil {
		t.Fatal(err)
	}
	for rev := kv.Revision(1); rev <= 7; rev++ {
		it, err := s.Get(ctx, "k", kv.AtRevision(rev))
		if rev < 6 {
			want(t, err, kv.ErrCompacted)
			if c, ok := errors.AsType[*kv.CompactedError](err); !ok || c.Revision != rev || c.Compacted != 6 {
				t.Errorf("at %d: %v", rev, err)
			}
			continue
		}
		if err != nil || it.ModRevision != rev || it.CreateRevision != 5 || it.Version != int64(rev)-4 {
			t.Errorf("at %d: %+v, %v", rev, it, err)
		}
	}
	for _, err := range s.Scan(ctx, kv.All(), kv.AtRevision(5)) {
		want(t, err, kv.ErrCompacted)
	}
	want(t, s.Compact(ctx, 6), kv.ErrCompacted)
	want(t, s.Compact(ctx, 3), kv.ErrCompacted)
	if rev, err := s.Revision(ctx); rev != 7 || err != nil {
		t.Errorf("a compaction is no revision: %d, %v", rev, err)
	}
	if err := s.Compact(ctx, 7); err != nil {
		t.Error(err)
	}
}
