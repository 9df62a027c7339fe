package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// Wanted says what Changes does with an element of the revision index.
type Wanted uint8

// What Changes does with an element.
const (
	Skip          Wanted = iota
	WantEvent            // resolve it: the item with CreateRevision and Version
	WantPrevious         // and the item before it
	wantedUnknown        // above: a mistake of the caller
)

// ChangesQuery says which changes to read.
type ChangesQuery struct {
	After kv.Revision // begin with the first revision above
	// A page ends with the revision that reaches one of the limits: so many events,
	// bytes of them, or bytes of index elements looked at.
	MaxEvents, MaxBytes, MaxScanned int
	// Compacted history can be read, too, as long as none of it was removed: it is for
	// who was reading when it was compacted.
	Compacted bool
	// Want is called with each element in order, on the caller's goroutine. The key
	// is valid during the call.
	Want func(c IndexedChange) Wanted
}

// ChangesPage is a part of the history.
type ChangesPage struct {
	Changes []kv.Change // revisions with at least one wanted event, whole
	Through kv.Revision // all that is wanted up to here is in Changes
	Newest  kv.Revision // the state's, when the page was read
}

// Changes reads the history after a revision from the revision index, in order,
// whole revisions only. All is read from one Pebble snapshot, and so is what
// decides whether it can be: *kv.CompactedError if changes after q.After may
// have been removed, ErrFutureRevision if q.After has not come yet. Values are
// the caller's.
//
// A page is bounded by the query's limits and one more revision, which is
// bounded by an entry of the log, by the settings for DeleteRange, and by
// kv.MaxPreviousBytes.
func (s *Store) Changes(q ChangesQuery) (page ChangesPage, err error) {
	e, err := s.acquire()
	if err != nil {
		return page, err
	}
	defer e.release()
	// The snapshot first, then the compacted revision *from it*.
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	st, err := loadState(snap)
	if err != nil {
		return page, err
	}
	first := st.Compacted // Compact(C) removes index rows up to C, and only them
	if q.Compacted {
		first = min(first, kv.Revision(e.removing.Load())) // after the snapshot was taken
	}
	switch {
	case q.After < first:
		return page, &kv.CompactedError{Revision: q.After + 1, Compacted: st.Compacted}
	case q.After > st.Revision:
		return page, fmt.Errorf("%w: revision %d, the newest is %d", kv.ErrFutureRevision, q.After, st.Revision)
	case q.After == st.Revision:
		return ChangesPage{Through: st.Revision, Newest: st.Revision}, nil
	}
	r := changesReader{s: s, snap: snap, q: q, page: ChangesPage{Newest: st.Revision}, kept: map[string]resolution{}}
	defer func() { err = errors.Join(err, r.close()) }()
	return r.read()
}

// indexElementBytes is about what an element takes beside its key.
const indexElementBytes = 8

// changesReader makes one page.
type changesReader struct {
	s    *Store
	snap *pebble.Snapshot
	q    ChangesQuery
	page ChangesPage

	events, bytes, scanned int
	previous               int         // bytes of the previous items of cur
	cur                    kv.Change   // the revision being read
	last                   kv.Revision // of the newest element seen

	rows *pebble.Iterator // over data; opened at need
	buf  []byte
	// kept is what the newest put of a key in this page resolved to: the next one
	// need not walk. It is dropped at each element that is not resolved.
	kept map[string]resolution
}

type resolution struct {
	mod, create kv.Revision // mod: of the put
	version     int64
}

func (r *changesReader) close() error {
	if r.rows == nil {
		return nil
	}
	return asCorrupt(r.rows.Close())
}

func (r *changesReader) read() (ChangesPage, error) {
	_, upper := spaceBounds(spaceIndex)
	it, err := r.snap.NewIter(&pebble.IterOptions{LowerBound: indexKey(uint64(r.q.After)+1, 0), UpperBound: upper})
	if err != nil {
		return ChangesPage{}, asCorrupt(err)
	}
	err = r.rowsOf(it)
	if err = errors.Join(err, asCorrupt(it.Error()), asCorrupt(it.Close())); err != nil {
		return ChangesPage{}, err
	}
	return r.page, nil
}

// errPageEnds ends the loop over a row.
var errPageEnds = errors.New("the page ends")

func (r *changesReader) rowsOf(it *pebble.Iterator) error {
	for ok := it.First(); ok; ok = it.Next() {
		row, err := it.ValueAndErr()
		if err != nil {
			return asCorrupt(err)
		}
		var failed error
		_, err = decodeIndexRow(row, func(c IndexedChange) {
			if failed == nil {
				failed = r.element(c)
			}
		})
		if err = errors.Join(err, failed); errors.Is(err, errPageEnds) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.endRevision()
	r.page.Through = r.page.Newest
	return nil
}

func (r *changesReader) element(c IndexedChange) error {
	if c.Revision <= r.q.After { // the row spans where we begin
		return nil
	}
	if c.Revision != r.last {
		r.endRevision()
		if r.full() {
			return errPageEnds
		}
		r.cur.Revision, r.last = c.Revision, c.Revision
	}
	r.scanned += len(c.Key) + indexElementBytes
	switch want := r.q.Want(c); {
	case want == Skip:
		delete(r.kept, string(c.Key))
		return nil
	case want >= wantedUnknown:
		return fmt.Errorf("%w: wanted %d", kv.ErrInvalidArgument, want)
	default:
		return r.event(c, want == WantPrevious)
	}
}

// endRevision adds the revision that was read to the page, if it is whole.
func (r *changesReader) endRevision() {
	if len(r.cur.Events) > 0 {
		r.page.Changes = append(r.page.Changes, r.cur)
	}
	r.cur, r.previous = kv.Change{}, 0
	r.page.Through = max(r.page.Through, r.last)
}

func (r *changesReader) full() bool {
	return r.last > 0 && (r.events >= r.q.MaxEvents || r.bytes >= r.q.MaxBytes || r.scanned >= r.q.MaxScanned)
}

// event reads the row that c speaks of, and the one before if asked for.
func (r *changesReader) event(c IndexedChange, previous bool) error {
	ev := kv.Event{Kind: kv.EventPut, Item: kv.Item{Key: string(c.Key), ModRevision: c.Revision}}
	if c.Kind == Remove {
		ev.Kind = kv.EventDelete
	}
	previous = previous && r.previous < kv.MaxPreviousBytes
	if c.Kind == Put || previous {
		if err := r.lookUp(&ev, previous); err != nil {
			return err
		}
	}
	if c.Kind == Remove {
		delete(r.kept, ev.Item.Key)
	}
	r.events++
	r.bytes += len(ev.Item.Key) + len(ev.Item.Value)
	r.cur.Events = append(r.cur.Events, ev)
	return nil
}

// lookUp fills the event from the rows of its key.
func (r *changesReader) lookUp(ev *kv.Event, previous bool) error {
	if err := r.seek(&ev.Item); err != nil {
		return err
	}
	h, _, err := headAt(r.rows)
	if err != nil {
		return err
	}
	if h.tomb != (ev.Kind == kv.EventDelete) {
		return fmt.Errorf("%w: state: the row of %q at revision %d is not what the index says", kv.ErrCorrupt, ev.Item.Key, h.mod)
	}
	ev.Item.Lease = kv.LeaseID(h.row.lease)
	if !h.tomb {
		ev.Item.Value = clone(h.row.value)
	}
	if previous { // it moves the iterator, under which h.row.value lives
		if ev.Prev, err = r.before(ev.Item.Key); err != nil {
			return err
		}
	}
	switch k, ok := r.kept[ev.Item.Key]; {
	case h.tomb:
		return nil
	case h.row.resolved:
		ev.Item.CreateRevision, ev.Item.Version = kv.Revision(h.row.create), int64(h.row.version)
	case ok:
		ev.Item.CreateRevision, ev.Item.Version = k.create, k.version+1
	case previous: // there was none
		ev.Item.CreateRevision, ev.Item.Version = ev.Item.ModRevision, 1
	default:
		if err := r.s.fill(r.rows, &ev.Item, &h); err != nil {
			return err
		}
	}
	r.keep(&ev.Item)
	return nil
}

func (r *changesReader) keep(item *kv.Item) {
	r.kept[item.Key] = resolution{item.ModRevision, item.CreateRevision, item.Version}
}

// seek puts the iterator on the row of the item.
func (r *changesReader) seek(item *kv.Item) error {
	if r.rows == nil {
		it, err := r.snap.NewIter(&pebble.IterOptions{UseL6Filters: true, LowerBound: []byte{spaceData, bareEnd}, UpperBound: dataEnd()})
		if err != nil {
			return asCorrupt(err)
		}
		r.rows = it
	}
	r.buf = appendVersion(appendBare(r.buf[:0], item.Key), uint64(item.ModRevision))
	if !r.rows.SeekPrefixGE(r.buf) || string(r.rows.Key()) != string(r.buf) {
		if err := asCorrupt(r.rows.Error()); err != nil {
			return err
		}
		return fmt.Errorf("%w: state: the row of %q at revision %d is missing", kv.ErrCorrupt, item.Key, item.ModRevision)
	}
	return nil
}

// before returns the item in the row after that under the iterator, which is
// what the key held one revision earlier; nil if it was absent. It is there if
// it ever was: of the rows at or below the compacted revision the newest stays.
func (r *changesReader) before(key string) (*kv.Item, error) {
	if !r.rows.Next() {
		return nil, asCorrupt(r.rows.Error())
	}
	h, _, err := headAt(r.rows)
	if err != nil || h.tomb {
		return nil, err
	}
	item := &kv.Item{Key: key, Value: clone(h.row.value), ModRevision: kv.Revision(h.mod), Lease: kv.LeaseID(h.row.lease)}
	if k, ok := r.kept[key]; ok && k.mod == item.ModRevision {
		item.CreateRevision, item.Version = k.create, k.version
	} else if err := r.s.fill(r.rows, item, &h); err != nil {
		return nil, err
	}
	r.keep(item)
	size := len(item.Key) + len(item.Value)
	r.previous += size
	r.bytes += size
	return item, nil
}
