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
	// While a sweep goes on, files are written at most this often, and a piece is
	// worth it only if one in so many bytes is garbage: there will be more.
	reclaimFlushEvery   = 10 * time.Second
	reclaimSweepingPart = 4
)

// Reclaim gives the room of what was removed back, by compacting those pieces of the
// key space of which at least one in so many bytes is garbage, as Pebble estimates. It
// returns when it has been through, or with ctx's error; what is removed later is
// for the next call. Its work is that of writing those pieces once, at a limited
// rate. One caller at a time.
func (s *Store) Reclaim(ctx context.Context, part uint64) error {
	swept, err := s.flushSwept()
	if err != nil {
		return err
	}
	if !swept {
		part = min(part, reclaimSweepingPart)
	}
	var from []byte // nil: the beginning
	for ctx.Err() == nil {
		p, ok, err := s.compactPiece(ctx, from, part)
		if !ok || err != nil {
			return err
		}
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

// flushSwept writes the tombstones of the sweep to files, where their garbage is
// counted. Done: the sweep is over, for now.
func (s *Store) flushSwept() (done bool, err error) {
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
	if err != nil {
		return false, err
	}
	done = swept >= st.Compacted
	if swept == e.flushed || !done && time.Since(e.flushedAt) < reclaimFlushEvery {
		return done, nil
	}
	if err := e.flush(); err != nil {
		return false, err
	}
	e.flushed, e.flushedAt = swept, time.Now()
	return done, nil
}

// piece is a part of the key space, from a bound to another, both inclusive.
type piece struct {
	from, to []byte
	bytes    uint64 // of its files of the lowest level
	garbage  uint64 // that compacting it would free, as far as it can be told
}

// compactPiece compacts the first piece from a bound on that is worth it.
func (s *Store) compactPiece(ctx context.Context, from []byte, part uint64) (p piece, ok bool, err error) {
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
	for _, p := range pieces(levels, reclaimPieceBytes) {
		if p.garbage == 0 || p.garbage < p.bytes/part || from != nil && comparer.Compare(p.to, from) <= 0 {
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

// pieces cuts the key space where files of the lowest level that has any begin.
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
	// Of the lowest level that there can be a compaction frees nothing: tombstones
	// there were needed by a reader, and go by themselves.
	for _, level := range levels[:len(levels)-1] {
		for i := range level {
			if t := &level[i]; garbageOf(t) > 0 {
				share(out, t)
			}
		}
	}
	return out
}

// share shares the garbage that a file makes among the pieces that it reaches into,
// by their size.
func share(out []piece, t *pebble.SSTableInfo) {
	first, _ := slices.BinarySearchFunc(out, t.Smallest.UserKey, func(p piece, k []byte) int { return comparer.Compare(p.to, k) })
	end, sum := first, uint64(0)
	for ; end < len(out) && comparer.Compare(out[end].from, t.Largest.UserKey) <= 0; end++ {
		sum += out[end].bytes
	}
	for i := first; i < end; i++ {
		part := 1 / float64(end-first)
		if sum > 0 {
			part = float64(out[i].bytes) / float64(sum)
		}
		out[i].garbage += uint64(part * float64(garbageOf(t)))
	}
}

// bareOf is the bound below all versions of a row's key.
func bareOf(k []byte) []byte { return slices.Clone(k[:split(k)]) }
