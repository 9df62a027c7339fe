package store

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/kv"
)

// View reads the store as it is at one moment, whatever is written or compacted
// meanwhile. It keeps the engine's old rows and files in place, so it must not
// stay open for long.
type View struct {
	s   *Store
	rev kv.Revision

	mu   sync.Mutex // held by each read: Close waits for it
	e    *engine    // nil once closed
	snap *pebble.Snapshot
}

// View opens a view of the newest revision.
func (s *Store) View() (*View, error) {
	e, err := s.acquire()
	if err != nil {
		return nil, err
	}
	v := &View{s: s, e: e, snap: e.db.NewSnapshot()}
	st, err := loadState(v.snap)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	v.rev = st.Revision
	return v, nil
}

// Revision is what the view shows.
func (v *View) Revision() kv.Revision { return v.rev }

// Close ends the view; later reads answer kv.ErrTxnTooOld. It is idempotent.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.e == nil {
		return nil
	}
	err := v.snap.Close()
	v.e.release()
	v.e = nil
	return err
}

// Get returns the item of key. The item is the caller's.
func (v *View) Get(key string) (kv.Item, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.e == nil {
		return kv.Item{}, kv.ErrTxnTooOld
	}
	return v.s.getNewest(v.snap, key)
}

// Scan returns a page of r; Page.Revision is ignored. The items are the caller's.
func (v *View) Scan(r kv.Range, p Page) (items []kv.Item, more bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.e == nil {
		return nil, false, kv.ErrTxnTooOld
	}
	p.Revision = v.rev
	return v.s.scan(v.snap, r, p)
}
