package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// Removal of what the logical compaction has superseded: of a key's rows at or
// below the compacted revision only the newest, the survivor, stays, and not even
// it if it is a tombstone. Which keys have such rows, the revision index says, so
// the work is in proportion to what has changed. It is done in steps, each a few
// Pebble batches, at a limited rate; nothing that apply or readers wait for is
// held.
//
// The row "swept" says how far it has come, on this member.
//
// Invariant: a key has at most one row at or below swept, and none that is a
// tombstone, unless an index row above swept names the key.

const (
	// sweepStepBytes is the work of a step, more or less.
	sweepStepBytes = 256 << 10
	// sweepRateBytes is how much work is done in a second. Why not more: compactions
	// do the same work once more, on the same disk as the log. Why not less: it
	// must keep pace with the writes, which cost more each.
	sweepRateBytes = 32 << 20
	// sweepFarBehind is how many revisions that are to be swept make it hurry.
	sweepFarBehind = 8_000_000
	// sweepKeyBytes is what looking at a key counts.
	sweepKeyBytes = 100
)

var sweptKey = metaKey("swept")

func loadSwept(r pebble.Reader) (kv.Revision, error) {
	b, err := getCopy(r, sweptKey)
	if b == nil || err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: swept row of %d bytes", kv.ErrCorrupt, len(b))
	}
	return kv.Revision(binary.BigEndian.Uint64(b)), nil
}

// Swept is the revision up to which this member has removed what is superseded; at
// most the compacted revision.
func (s *Store) Swept() kv.Revision {
	if e := s.eng.Load(); e != nil {
		return kv.Revision(e.swept.Load())
	}
	return 0
}

// sweepStep is one step.
type sweepStep struct {
	it     *pebble.Iterator // over data
	b      *pebble.Batch
	target uint64 // the compacted revision
	swept  uint64 // entries up to this revision are done
	cost   int
	bare   []byte

	memo *sweepMemo
}

// sweepMemo is what is remembered from step to step.
type sweepMemo struct {
	e      *engine
	target uint64
	// keys are done: nothing of them at or below target is left to remove. An index
	// names a key as often as it was written, and each look at it would pass all
	// that was deleted of it before. Without, a hundred thousand versions of ten
	// thousand keys took minutes, and both cores of the machine.
	keys  map[string]bool
	bytes int // of keys
	// from is the index row where the next step begins, if above swept. Without, a
	// step would look at an entry from its beginning: one that names more keys than
	// a step has room for would never be done.
	from  []byte
	looks int // at keys, since the store was opened
}

// maxSweptBytes bounds the keys remembered; then it begins anew.
const maxSweptBytes = 8 << 20

// of makes m that of an engine, and of a compacted revision.
func (m *sweepMemo) of(e *engine, target uint64) *sweepMemo {
	if m.e != e {
		m.from = nil
	}
	// What is done below an old target may be superseded since: index rows above that
	// target say so. In an entry that spans it they may have been passed over.
	if m.target != target && m.from != nil && binary.BigEndian.Uint64(m.from[1:]) > m.target {
		m.from = nil
	}
	if m.e != e || m.target != target || m.bytes > maxSweptBytes {
		*m = sweepMemo{e: e, target: target, keys: make(map[string]bool), from: m.from, looks: m.looks}
	}
	return m
}

// step sweeps a part, up to the janitor's target at most. More says that something is
// left; cost is the work that was done, in bytes.
func (j *janitor) step() (cost int, more bool, err error) {
	e, err := j.s.acquire()
	if err != nil {
		return 0, false, err
	}
	defer e.release()
	st, err := loadState(e.db)
	if err != nil {
		return 0, false, err
	}
	swept, err := loadSwept(e.db)
	if err != nil || swept >= st.Compacted {
		return 0, false, err
	}
	target := uint64(st.Compacted)
	if j.target > 0 {
		target = min(target, uint64(j.target))
	}
	if uint64(swept) >= target {
		return 0, false, nil
	}
	e.removing.Store(max(e.removing.Load(), int64(target)))
	w := &sweepStep{b: e.db.NewBatch(), target: target, swept: uint64(swept), memo: j.swept.of(e, target)}
	defer func() {
		if err = errors.Join(err, w.b.Close()); err != nil {
			j.swept = sweepMemo{looks: j.swept.looks} // what was removed of them may not be
		}
	}()
	if w.it, err = e.db.NewIter(&pebble.IterOptions{UseL6Filters: true, LowerBound: []byte{spaceData, bareEnd}, UpperBound: dataEnd()}); err != nil {
		return 0, false, asCorrupt(err)
	}
	defer func() { err = errors.Join(err, asCorrupt(w.it.Close())) }()
	if err := w.run(e.db, j.quit); err != nil {
		return 0, false, err
	}
	// Index rows whose last revision is at or below the compacted one: a row that
	// spans it stays. Those of earlier steps are gone: tombstones that reach over each
	// other cost each reader of the memtable the square of their number.
	err = errors.Join(w.b.DeleteRange(indexKey(uint64(swept)+1, 0), indexKey(w.swept+1, 0), nil),
		w.b.Set(sweptKey, binary.BigEndian.AppendUint64(nil, w.swept), nil), w.b.Commit(pebble.NoSync))
	if err == nil {
		e.swept.Store(int64(w.swept))
	}
	return w.cost, w.swept < w.target, err
}

// run goes over the rows of the index above swept, until the step is full. An entry
// may have several rows, under the same last revision; swept passes it when all of
// them are done.
func (w *sweepStep) run(db *pebble.DB, quit <-chan struct{}) error {
	from := indexKey(w.swept+1, 0)
	if bytes.Compare(w.memo.from, from) > 0 {
		from = w.memo.from
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: indexKey(math.MaxUint64, 0)})
	if err != nil {
		return asCorrupt(err)
	}
	last := uint64(0) // of the entry under way
	for ok := it.First(); ok; ok = it.Next() {
		select {
		case <-quit:
			return errors.Join(kv.ErrClosed, it.Close())
		default:
		}
		if r := binary.BigEndian.Uint64(it.Key()[1:]); r != last {
			w.swept = max(w.swept, min(last, w.target))
			last = r
		}
		w.memo.from = append(w.memo.from[:0], it.Key()...)
		if w.cost >= sweepStepBytes {
			return it.Close()
		}
		whole, begins, err := w.row(it.Value())
		if err != nil || !whole {
			return errors.Join(err, it.Close())
		}
		if begins > w.target {
			break
		}
	}
	if err := errors.Join(asCorrupt(it.Error()), it.Close()); err != nil {
		return err
	}
	w.swept = w.target // nothing above names what is below
	return nil
}

// row handles the keys of an index row, and says at which revision it begins. Not
// whole: the batch is full, and there is more to remove.
func (w *sweepStep) row(b []byte) (whole bool, begins uint64, err error) {
	whole, begins = true, math.MaxUint64
	var failed error
	_, err = decodeIndexRow(b, func(c IndexedChange) {
		begins = min(begins, uint64(c.Revision))
		if !whole || failed != nil || uint64(c.Revision) > w.target || w.memo.keys[string(c.Key)] {
			return
		}
		if whole, failed = w.key(c.Key); whole && failed == nil {
			w.memo.keys[string(c.Key)] = true
			w.memo.bytes += len(c.Key) + 64
		}
	})
	w.cost += len(b)
	return whole, begins, errors.Join(err, failed)
}

// key removes what a key's survivor has superseded, as far as the batch holds.
// Settling the survivor comes before the removal of its elders, or with it: they
// say when the key was created. A tombstone goes last, or with its elders: alone,
// it would uncover them.
func (w *sweepStep) key(key []byte) (whole bool, err error) {
	it := w.it
	w.memo.looks++
	w.cost += sweepKeyBytes + len(key)
	w.bare = appendBare(w.bare[:0], key)
	// By prefix: files that have nothing of the key are passed over by their filters,
	// and the iterator ends with the key's rows.
	if !it.SeekPrefixGE(appendVersion(slices.Clone(w.bare), w.target)) {
		return true, asCorrupt(it.Error())
	}
	h, _, err := headAt(it)
	if err != nil {
		return false, err
	}
	survivor, size := slices.Clone(it.Key()), rowSize(it)
	if more := it.Next(); more && !h.tomb && !h.row.resolved {
		it.SeekPrefixGE(survivor)
		if h, _, err = headAt(it); err != nil {
			return false, err
		}
		if err := settleRow(w.b, it, &h); err != nil {
			return false, err
		}
		w.cost += int(size)
		it.SeekPrefixGE(survivor)
		it.Next()
	}
	for ; it.Valid(); it.Next() {
		// Something must have been removed, or the next step would get no further.
		if w.cost >= 2*sweepStepBytes && !w.b.Empty() || w.b.Len() >= sweepStepBytes {
			return false, nil
		}
		n := rowSize(it)
		if err := w.b.DeleteSized(it.Key(), n, nil); err != nil {
			return false, err
		}
		w.cost += len(it.Key()) + int(n)
	}
	if err := asCorrupt(it.Error()); err != nil || !h.tomb {
		return true, err
	}
	return true, w.b.DeleteSized(survivor, size, nil)
}

// rowSize returns the length of the value under the iterator without fetching
// it: a second fetch would invalidate what the first returned.
func rowSize(it *pebble.Iterator) uint32 {
	v := it.LazyValue()
	return uint32(v.Len())
}

// RevisionAt returns the newest revision that is at least as old as a replicated
// time, in Unix milliseconds; 0 if there is none above the compacted revision.
func (s *Store) RevisionAt(timeMillis uint64) (kv.Revision, error) {
	e, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer e.release()
	snap := e.db.NewSnapshot()
	defer snap.Close()
	st, err := loadState(snap)
	if err != nil {
		return 0, err
	}
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: indexKey(uint64(st.Compacted)+1, 0), UpperBound: indexKey(math.MaxUint64, 0)})
	if err != nil {
		return 0, asCorrupt(err)
	}
	defer it.Close()
	// Replicated time never falls, so the entries can be searched. Of low all is
	// old enough, of high nothing.
	low, high := uint64(st.Compacted), uint64(st.Revision)+1
	for high-low > 1 {
		mid := low + (high-low)/2
		if !it.SeekGE(indexKey(mid, 0)) {
			if err := asCorrupt(it.Error()); err != nil {
				return 0, err
			}
			high = mid
			continue
		}
		at, err := decodeIndexRow(it.Value(), func(IndexedChange) {})
		switch last := binary.BigEndian.Uint64(it.Key()[1:]); {
		case err != nil:
			return 0, err
		case at <= timeMillis:
			low = last
		default: // the entry that has mid is too young
			high = mid
		}
	}
	if low <= uint64(st.Compacted) {
		return 0, nil
	}
	return kv.Revision(low), nil
}

// rest returns how long to rest after a step that did so much work in so long a time,
// with so many revisions left. As long as it took: half of a processor, less where
// processors are busy, since a step takes longer then. Not at all once the sweep is far
// behind: in the end removal must keep pace with writers. Three times as long was tried:
// three members on two cores, under as many Sets as they take, were not done with a
// million versions after eight minutes.
func rest(cost int, took time.Duration, left uint64) time.Duration {
	if left > sweepFarBehind {
		took = 0
	}
	return max(took, time.Duration(cost)*time.Second/sweepRateBytes)
}
