package store

import (
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Removed rows take room until Pebble has compacted them away, which it does when
// levels fill up. A store that refuses writes fills none: the tombstones of what
// was emptied, a few kilobytes, would stay in memory, and the data in the lowest
// level for good. Measured: of 40 MiB that were deleted and swept, 40 MiB stayed, and
// after a flush a third to half of it.

const (
	// reclaimPieceBytes is how much is compacted at once, more or less. Why not
	// more: as much is on disk twice meanwhile, which is nearly full. Why not less:
	// what lies above the lowest level is compacted with the first piece.
	reclaimPieceBytes = 64 << 20
	// reclaimRateBytes is how much is compacted in a second, at the disk's cost of
	// reading and writing it.
	reclaimRateBytes = 32 << 20
)

// Reclaim gives the room of what was removed back, by compactions of pieces of the
// key space, if they would free at least so many bytes, as Pebble estimates. It does
// nothing while a sweep is under way. It returns when it has been through, or with
// ctx's error; what is removed later is for the next call. The work is that of
// writing those pieces once. One caller at a time.
func (s *Store) Reclaim(ctx context.Context, least int64) error {
	swept, err := s.flushSwept()
	if !swept || err != nil {
		return err
	}
	var from []byte // nil: the beginning
	for ctx.Err() == nil {
		p, ok, err := s.compactPiece(ctx, from, least)
		if !ok || err != nil {
			return err
		}
		least = 0 // it is worth it
		from = p.to
		rest := time.NewTimer(time.Duration(p.bytes) * time.Second / reclaimRateBytes)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
	return context.Cause(ctx)
}

// flushSwept writes the tombstones of a finished sweep to files, where their
// garbage is counted. False: the sweep goes on.
func (s *Store) flushSwept() (bool, error) {
	e, err := s.acquire()
	if err != nil {
		return false, err
	}
	defer e.release()
	st, err := loadState(e.db)
	if err != nil {
		return false, err
	}
	swept, err := loadSwept(e.db)
	if err != nil || swept < st.Compacted {
		return false, err
	}
	if swept == e.flushed {
		return true, nil
	}
	if err := e.flush(); err != nil {
		return false, err
	}
	e.flushed = swept
	return true, nil
}

// piece is a part of the key space, from a bound to another, both inclusive.
type piece struct {
	from, to []byte
	bytes    uint64 // of its files of the lowest level
	garbage  uint64 // that compacting it would free, as far as it can be told
}

// compactPiece compacts the first piece from a bound on that has garbage, if all
// of them together have the least.
func (s *Store) compactPiece(ctx context.Context, from []byte, least int64) (p piece, ok bool, err error) {
	e, err := s.acquire()
	if err != nil {
		return piece{}, false, err
	}
	defer e.release()
	var levels [][]pebble.SSTableInfo
	err = e.whileWell(func() (err error) { levels, err = e.db.SSTables(); return err })
	if err != nil {
		return piece{}, false, asCorrupt(err)
	}
	if int64(garbage(levels)) < max(least, 1) {
		return piece{}, false, nil
	}
	for _, p := range pieces(levels, reclaimPieceBytes) {
		if p.garbage == 0 || from != nil && comparer.Compare(p.to, from) <= 0 {
			continue
		}
		err := e.whileWell(func() error { return e.db.Compact(ctx, p.from, p.to, false) })
		return p, true, asCorrupt(err)
	}
	return piece{}, false, nil
}

func garbageOf(t *pebble.SSTableInfo) uint64 {
	return t.TableStats.PointDeletionsBytesEstimate + t.TableStats.RangeDeletionsBytesEstimate
}

// dirty are the levels of which a compaction frees garbage: all but the lowest that
// there can be. Tombstones there were needed by a reader, and go by themselves.
func dirty(levels [][]pebble.SSTableInfo) [][]pebble.SSTableInfo { return levels[:len(levels)-1] }

func garbage(levels [][]pebble.SSTableInfo) (sum uint64) {
	for _, level := range dirty(levels) {
		for i := range level {
			sum += garbageOf(&level[i])
		}
	}
	return sum
}

// pieces cuts the key space where files of the lowest level that has any begin. The
// garbage of a file above counts for every piece that it reaches into.
func pieces(levels [][]pebble.SSTableInfo, size uint64) []piece {
	last := len(levels) - 1
	for last > 0 && len(levels[last]) == 0 {
		last--
	}
	out := []piece{{}}
	for i := range levels[last] {
		t := &levels[last][i]
		p := &out[len(out)-1]
		if cut := bareOf(t.Smallest.UserKey); last > 0 && p.bytes > 0 && p.bytes+t.Size > size && comparer.Compare(p.from, cut) < 0 {
			p.to = cut
			out = append(out, piece{from: cut})
			p = &out[len(out)-1]
		}
		p.bytes += t.Size
	}
	out[0].from, out[len(out)-1].to = []byte{0, bareEnd}, []byte{0xff, bareEnd}
	for _, level := range dirty(levels) {
		for i := range level {
			t := &level[i]
			if garbageOf(t) == 0 {
				continue
			}
			for j := range out {
				if p := &out[j]; comparer.Compare(t.Smallest.UserKey, p.to) <= 0 && comparer.Compare(t.Largest.UserKey, p.from) >= 0 {
					p.garbage += garbageOf(t)
				}
			}
		}
	}
	return out
}

// bareOf is the bound below all versions of a row's key.
func bareOf(k []byte) []byte { return slices.Clone(k[:split(k)]) }
