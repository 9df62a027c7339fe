package store

import (
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// janitor is the one goroutine that rewrites history: it settles rows (stores
// the resolved CreateRevision and Version in them) and removes superseded
// ones. It changes no logical value. That there is only one keeps a settler
// from bringing back a row that a removal has just deleted.
type janitor struct {
	s     *Store
	keys  chan string   // to settle; dropped when full: the next reader asks again
	wake  chan struct{} // capacity 1: there may be something to sweep
	sweep chan sweepRequest
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}

	// run's own, as is what follows.
	swept  sweepMemo
	target kv.Revision // no more than this is removed; 0: all that is compacted
}

// sweepDelay is between a compaction and the removal of what it has superseded: a
// watcher that keeps up passes a compaction that is close behind the newest revision.
const sweepDelay = time.Second

type sweepRequest struct {
	result chan<- error
}

const janitorQueue = 256

func startJanitor(s *Store) *janitor {
	j := &janitor{s: s, keys: make(chan string, janitorQueue), wake: make(chan struct{}, 1), sweep: make(chan sweepRequest),
		quit: make(chan struct{}), done: make(chan struct{})}
	j.compacted() // a sweep may have been interrupted
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

// compacted has what is superseded now removed, at the janitor's pace.
func (j *janitor) compacted() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *janitor) run() {
	defer close(j.done)
	next := time.NewTimer(0) // rings when the next step is due
	next.Stop()
	defer next.Stop()
	sweeping := false
	begin := func() {
		c := j.s.State().Compacted
		if sweeping = c > j.s.Swept(); sweeping {
			j.target = c
			next.Reset(sweepDelay)
		}
	}
	for {
		select {
		case <-j.quit:
			return
		case key := <-j.keys:
			if err := j.settleKey(key); err != nil {
				j.s.opts.Logger.Warn("state: settle", "error", err)
			}
		case <-j.wake:
			if !sweeping {
				begin()
			}
		case <-next.C:
			began := time.Now()
			switch cost, more, err := j.step(); {
			case err != nil: // tried again after the next compaction
				sweeping = false
				if !errors.Is(err, kv.ErrClosed) {
					j.s.opts.Logger.Warn("state: sweep", "error", err)
				}
			case more:
				next.Reset(rest(cost, time.Since(began), uint64(j.target-j.s.Swept())))
			default:
				begin() // with what was compacted meanwhile
			}
		case req := <-j.sweep:
			j.target = 0
			req.result <- j.sweepAll()
		}
	}
}

func (j *janitor) sweepAll() error {
	for {
		if _, more, err := j.step(); !more || err != nil {
			return err
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

// Sweep removes at once the rows that the logical compaction has superseded, and
// returns when it is done. They are removed anyway, at a limited rate.
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
