package store

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// janitor is the one goroutine that rewrites history: it settles rows (stores
// the resolved CreateRevision and Version in them) and removes superseded
// ones. It changes no logical value. That there is only one keeps a settler
// from bringing back a row that a removal has just deleted.
type janitor struct {
	s     *Store
	keys  chan string // to settle; dropped when full: the next reader asks again
	sweep chan sweepRequest
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}
}

type sweepRequest struct {
	result chan<- error
}

const janitorQueue = 256

func startJanitor(s *Store) *janitor {
	j := &janitor{s: s, keys: make(chan string, janitorQueue), sweep: make(chan sweepRequest),
		quit: make(chan struct{}), done: make(chan struct{})}
	go j.run()
	return j
}

func (j *janitor) cancel() { j.once.Do(func() { close(j.quit) }) }

func (j *janitor) stop() {
	j.cancel()
	<-j.done
}

func (j *janitor) settle(key string) {
	select {
	case j.keys <- key:
	default:
	}
}

func (j *janitor) run() {
	defer close(j.done)
	for {
		select {
		case <-j.quit:
			return
		case key := <-j.keys:
			if err := j.settleKey(key); err != nil {
				j.s.opts.Logger.Warn("state: settle", "error", err)
			}
		case req := <-j.sweep:
			req.result <- j.removeSuperseded()
		}
	}
}

// settleKey rewrites the newest row of key with what it resolves to.
func (j *janitor) settleKey(key string) error {
	e, err := j.s.acquire()
	if err != nil {
		return nil // closing
	}
	defer e.release()
	it, err := e.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return asCorrupt(err)
	}
	defer it.Close()
	if !it.SeekPrefixGE(appendBare(nil, key)) {
		return asCorrupt(it.Error())
	}
	h, _, err := headAt(it)
	if err != nil || h.tomb || h.row.resolved {
		return err
	}
	b := e.db.NewBatch()
	defer b.Close()
	if err := settleRow(b, it, &h); err != nil {
		return err
	}
	return b.Commit(pebble.NoSync)
}

// settleRow resolves the row h under the iterator, which moves to older rows,
// and writes it anew.
func settleRow(b *pebble.Batch, it *pebble.Iterator, h *head) error {
	key := append([]byte{}, it.Key()...)
	r := h.row
	r.value = clone(h.row.value)
	var err error
	if r.create, r.version, _, err = resolve(it, h.mod, &h.row); err != nil {
		return err
	}
	r.resolved = true
	return b.Set(key, append(r.appendHeader(nil), r.value...), nil)
}

// Sweep removes the rows that the logical compaction has superseded, and
// returns when it is done.
func (s *Store) Sweep() error {
	result := make(chan error, 1)
	select {
	case s.janitor.sweep <- sweepRequest{result}:
	case <-s.janitor.done:
		return kv.ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-s.janitor.done:
		return kv.ErrClosed
	}
}

// removeSuperseded goes over all keys: of the rows at or below the compacted
// revision only the newest, the survivor, stays, and not even it if it is a
// tombstone.
func (j *janitor) removeSuperseded() error {
	e, err := j.s.acquire()
	if err != nil {
		return err
	}
	defer e.release()
	st, err := loadState(e.db)
	if err != nil || st.Compacted == 0 {
		return err
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceData, bareEnd}, UpperBound: dataEnd()})
	if err != nil {
		return asCorrupt(err)
	}
	defer it.Close()
	w := &sweepBatch{db: e.db, b: e.db.NewBatch()}
	defer func() { w.b.Close() }()
	c := cursor{it: it, rev: uint64(st.Compacted)}
	for ok := c.first(); ok; ok = c.next() {
		select {
		case <-j.quit:
			return kv.ErrClosed
		default:
		}
		_, _, found, err := c.head()
		if err != nil {
			return err
		}
		if found {
			if err := w.key(&c); err != nil {
				return err
			}
		}
	}
	if err := asCorrupt(it.Error()); err != nil {
		return err
	}
	lower, _ := spaceBounds(spaceIndex)
	// Index rows whose last revision is at or below the compacted one: a row
	// that spans it stays.
	if err := w.b.DeleteRange(lower, indexKey(uint64(st.Compacted)+1, 0), nil); err != nil {
		return err
	}
	return w.b.Commit(pebble.NoSync)
}

const sweepBatchBytes = 1 << 20

// sweepBatch gathers removals.
type sweepBatch struct {
	db *pebble.DB
	b  *pebble.Batch
}

// key handles the key whose survivor is under the cursor. Settling the
// survivor and removing its elders is one Pebble batch; a batch may only end
// between them once the survivor is settled.
func (w *sweepBatch) key(c *cursor) error {
	it := c.it
	h, _, err := headAt(it)
	if err != nil {
		return err
	}
	survivor := append([]byte{}, it.Key()...)
	size := rowSize(it)
	switch {
	case h.tomb:
		if err := w.b.DeleteSized(survivor, size, nil); err != nil {
			return err
		}
	case !h.row.resolved:
		if err := settleRow(w.b, it, &h); err != nil {
			return err
		}
		it.SeekGE(survivor)
	}
	for it.Next() && string(c.prefix()) == string(c.bare) {
		if err := w.b.DeleteSized(it.Key(), rowSize(it), nil); err != nil {
			return err
		}
		// A tombstone survivor must go last, or with its elders: alone, it
		// would uncover them.
		if w.b.Len() > sweepBatchBytes && !h.tomb {
			if err := w.commit(); err != nil {
				return err
			}
		}
	}
	if w.b.Len() > sweepBatchBytes {
		return w.commit()
	}
	return nil
}

// rowSize returns the length of the value under the iterator without fetching
// it: a second fetch would invalidate what the first returned.
func rowSize(it *pebble.Iterator) uint32 {
	v := it.LazyValue()
	return uint32(v.Len())
}

func (w *sweepBatch) commit() error {
	if err := w.b.Commit(pebble.NoSync); err != nil {
		return err
	}
	err := w.b.Close()
	w.b = w.db.NewBatch()
	return err
}
