package store

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// TestReadsNeverGoBack: readers of few keys, which evict each other from a tiny
// table while they are written, never see less than was applied before they
// began.
func TestReadsNeverGoBack(t *testing.T) {
	const keys, writes = 3 * recentWays, 150 * recentWays
	l := newLoader(t, largeCache)
	small := newRecent(1, 64*10) // room for some of the values
	l.s.eng.Load().recent = small
	l.s.recent.Store(small)
	var begun, applied [keys]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	hits := atomic.Int64{}
	for r := range 3 {
		wg.Go(func() {
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := i * 7 % keys
				least := applied[k].Load()
				if _, _, known, _ := small.item(fmt.Sprint("k", k), func() uint64 { return uint64(l.s.State().Revision) }); known {
					hits.Add(1)
				}
				item, err := l.s.Get(fmt.Sprint("k", k), 0)
				got, _ := strconv.ParseInt(string(item.Value), 10, 64)
				switch {
				case errors.Is(err, kv.ErrNotFound):
					if least%10 != 9 && begun[k].Load() == least && least > 0 {
						t.Errorf("k%d is gone, %d was applied", k, least)
						return
					}
				case err != nil:
					t.Error(err)
					return
				case got < least:
					t.Errorf("k%d is %d, %d was applied", k, got, least)
					return
				}
			}
		})
	}
	for n := int64(1); n <= writes; n++ {
		k := int(n*5) % keys
		ops := []*command.Op{{Kind: command.Set, Key: fmt.Append(nil, "k", k), Value: fmt.Append(nil, n)}}
		if n%10 == 9 {
			ops[0] = &command.Op{Kind: command.Delete, Key: ops[0].Key}
		}
		begun[k].Store(n)
		l.apply(ops)
		applied[k].Store(n)
	}
	close(stop)
	wg.Wait()
	if hits.Load() == 0 {
		t.Error("no read was answered by the table: the test shows nothing")
	}
	if b := small.bytes.Load(); b < 0 || b > small.limit+1024 {
		t.Errorf("the table counts %d bytes, the limit is %d", b, small.limit)
	}
}

// crowd evicts all from a table of one set.
func crowd(c *recent) {
	for i := range uint64(2 * recentWays) {
		c.put(fmt.Append(nil, "x", i), recentSlot{mod: 10 + i}, nil)
	}
}

// What a reader found may be out of date when it adds it.
func TestATicketIsOfNow(t *testing.T) {
	key := []byte("k")
	old := kv.Item{Key: "k", Value: []byte("old"), ModRevision: 5, CreateRevision: 5, Version: 1}
	never := func() uint64 { return 0 }
	look := func(c *recent, committed uint64) (kv.Item, bool) {
		item, found, _, _ := c.item("k", func() uint64 { return committed })
		return item, found
	}
	for name, test := range map[string]struct {
		during    func(c *recent) // between the reader's look and its add
		before    func(c *recent) // its look
		committed uint64
		added     bool
	}{
		"nothing happens": {committed: 5, added: true},
		"a newer row":     {during: func(c *recent) { c.put(key, recentSlot{mod: 9, base: 9}, nil) }, committed: 8},
		"a newer row, evicted at once": {during: func(c *recent) {
			c.put(key, recentSlot{mod: 9, base: 9}, nil)
			crowd(c)
		}, committed: 8},
		"an uncommitted row, evicted before": {before: func(c *recent) {
			c.put(key, recentSlot{mod: 9, base: 9}, nil)
			crowd(c)
		}, committed: 8},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRecent(1, 1<<20)
			if test.before != nil {
				test.before(c)
			}
			_, _, known, ticket := c.item("k", never)
			if known {
				t.Fatal("known before it was added")
			}
			if test.during != nil {
				test.during(c)
			}
			c.add(&old, ticket, test.committed)
			item, found := look(c, 100)
			if found != test.added || found && string(item.Value) != "old" {
				t.Errorf("afterwards: %+v, %v", item, found)
			}
		})
	}
}

// A value that is read stays fresh; an uncommitted one is not shown.
func TestAReadValueIsKeptByWrites(t *testing.T) {
	c := newRecent(1, 1<<20)
	_, _, _, ticket := c.item("k", func() uint64 { return 5 })
	c.add(&kv.Item{Key: "k", Value: []byte("a"), ModRevision: 5, CreateRevision: 5, Version: 1}, ticket, 5)
	c.put([]byte("k"), recentSlot{mod: 6, resolved: true, create: 5, version: 2}, []byte("b"))
	if _, found, known, _ := c.item("k", func() uint64 { return 5 }); found || known {
		t.Error("an uncommitted row is shown")
	}
	item, found, _, _ := c.item("k", func() uint64 { return 6 })
	if !found || string(item.Value) != "b" || item.Version != 2 || item.CreateRevision != 5 || item.ModRevision != 6 {
		t.Errorf("%+v, %v", item, found)
	}
	c.put([]byte("k"), recentSlot{mod: 7, tomb: true}, nil)
	if _, found, known, _ := c.item("k", func() uint64 { return 7 }); found || !known {
		t.Error("a deleted key is not known to be absent")
	}
	if c.bytes.Load() != 0 {
		t.Errorf("%d bytes are counted without a value", c.bytes.Load())
	}
}
