package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// leaseLog applies operations on a store, an entry each.
type leaseLog struct {
	t     *testing.T
	s     *Store
	index uint64
	seq   uint64
}

func newLeaseLog(t *testing.T) *leaseLog { return newLeaseLogOn(t, vfs.NewMem()) }

func newLeaseLogOn(t *testing.T, fs vfs.FS) *leaseLog {
	l := &leaseLog{t: t, s: openMem(t, fs), index: 1}
	if _, err := l.s.Apply([]Entry{openSessionEntry(1)}); err != nil {
		t.Fatal(err)
	}
	return l
}

// do applies operations in one entry of a term and returns their results.
func (l *leaseLog) do(term uint64, ops ...*command.Op) []command.OpResult {
	l.t.Helper()
	l.index++
	l.seq++
	batch := encodeBatch(testSession, l.seq, l.seq-1, ops...)
	if ops[0].Term != 0 || ops[0].Kind == command.Setting { // a leader's
		l.seq--
		batch = encodeBatch(command.NoSession, 0, 0, ops...)
	}
	e := encodeEntry(l.index, batch)
	e.Term = term
	res, err := l.s.Apply([]Entry{e})
	if err != nil || res[0].Batches[0].Status != command.Applied {
		l.t.Fatalf("%+v, %v", res, err)
	}
	return res[0].Batches[0].Ops
}

func (l *leaseLog) want(status command.OpStatus, term uint64, op *command.Op) command.OpResult {
	l.t.Helper()
	res := l.do(term, op)[0]
	if res.Status != status {
		l.t.Fatalf("%v: status %d, want %d", op.Kind, res.Status, status)
	}
	return res
}

func (l *leaseLog) keys(id kv.LeaseID) []string {
	l.t.Helper()
	keys, _, err := l.s.LeaseKeys(id)
	if err != nil {
		l.t.Fatal(err)
	}
	return keys
}

func grantOp(id uint64) *command.Op { return &command.Op{Kind: command.Grant, Lease: id, TTL: 60_000} }

func leasedOp(key string, id uint64) *command.Op {
	return &command.Op{Kind: command.Set, Key: []byte(key), Lease: id}
}

// A leader's decision has an effect in its own term only, and on the lease that
// it was about.
func TestLateDecisions(t *testing.T) {
	l := newLeaseLog(t)
	l.want(command.OK, 3, grantOp(7))
	l.want(command.OK, 3, leasedOp("k", 7))
	generation := l.s.Leases()[0].Generation
	revoke := func(term, generation uint64) *command.Op {
		return &command.Op{Kind: command.Revoke, Lease: 7, Term: term, Generation: generation}
	}
	renew := func(term, generation, ttl uint64) *command.Op {
		return &command.Op{Kind: command.Renew, Lease: 7, Term: term, Generation: generation, TTL: ttl}
	}
	before := l.s.Leases()
	for _, late := range []*command.Op{revoke(3, generation), renew(3, generation, 5), revoke(5, generation), renew(5, generation, 5)} {
		l.want(command.Stale, 4, late)
	}
	l.want(command.Stale, 4, revoke(4, generation+1))
	l.want(command.Stale, 4, renew(4, generation-1, 5))
	l.want(command.Invalid, 4, renew(4, generation, 60_001))
	if got := l.s.Leases(); !slices.Equal(got, before) || len(l.keys(7)) != 1 {
		t.Fatalf("refused decisions made %+v of %+v, keys %q", got, before, l.keys(7))
	}
	l.want(command.OK, 4, renew(4, generation, 5000))
	if got := l.s.Leases()[0].Remaining; got != millis(5000) {
		t.Errorf("remaining %v", got)
	}
	if res := l.want(command.OK, 4, revoke(4, generation)); res.Deleted != 1 {
		t.Errorf("%+v", res)
	}
	l.want(command.LeaseNotFound, 4, revoke(4, generation))
	l.want(command.LeaseNotFound, 4, renew(4, generation, 5))
}

// What was set in the same entry hangs on the lease when it is revoked, and what
// was taken off does not; a lease that is granted again has nothing of the old one.
func TestLeaseInOneEntry(t *testing.T) {
	l := newLeaseLog(t)
	res := l.do(1, grantOp(7), leasedOp("b", 7), leasedOp("a", 7), leasedOp("off", 7),
		&command.Op{Kind: command.Set, Key: []byte("off")}, &command.Op{Kind: command.Revoke, Lease: 7},
		grantOp(7), leasedOp("c", 7))
	for i, r := range res {
		if r.Status != command.OK {
			t.Errorf("operation %d: status %d", i, r.Status)
		}
	}
	if r := res[5]; r.Deleted != 2 || r.Revision != res[4].Revision+1 {
		t.Errorf("revoke: %+v after revision %d", r, res[4].Revision)
	}
	if got := l.keys(7); !slices.Equal(got, []string{"c"}) {
		t.Errorf("keys %q", got)
	}
	if got := l.s.Leases()[0]; got.Hints != 1 || got.HintBytes != 1 {
		t.Errorf("%+v", got)
	}
	for key, there := range map[string]bool{"a": false, "b": false, "off": true, "c": true} {
		if _, err := l.s.Get(key, 0); there != (err == nil) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// As many keys hang on a lease as may, whatever hung on it before.
func TestLeaseIsFull(t *testing.T) {
	l := newLeaseLog(t)
	l.do(1, &command.Op{Kind: command.Setting, ID: SettingLeaseKeys, Number: 3},
		&command.Op{Kind: command.Setting, ID: SettingLeaseBytes, Number: 20},
		&command.Op{Kind: command.Setting, ID: SettingLeases, Number: 2})
	l.want(command.OK, 1, grantOp(1))
	l.want(command.OK, 1, grantOp(2))
	l.want(command.TooLarge, 1, grantOp(3))
	for round := range 3 {
		for i := range 3 {
			l.want(command.OK, 1, leasedOp(fmt.Sprint(round, i), 1))
		}
		rev := l.s.State().Revision
		l.want(command.TooLarge, 1, leasedOp("one more", 1))
		l.want(command.OK, 1, leasedOp(fmt.Sprint(round, 0), 1)) // one of them
		if got := l.s.State().Revision; got != rev+1 {
			t.Errorf("revision %d after %d", got, rev)
		}
		// Taken off, moved, deleted: none of it reads the lease.
		l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte(fmt.Sprint(round, 0))})
		l.want(command.OK, 1, leasedOp(fmt.Sprint(round, 1), 2))
		l.want(command.OK, 1, &command.Op{Kind: command.Delete, Key: []byte(fmt.Sprint(round, 1))})
		l.want(command.OK, 1, &command.Op{Kind: command.Delete, Key: []byte(fmt.Sprint(round, 2))})
		if got := l.keys(1); len(got) > 0 {
			t.Errorf("keys %q", got)
		}
	}
	l.want(command.OK, 1, leasedOp(strings.Repeat("k", 20), 1))
	l.want(command.TooLarge, 1, leasedOp("k", 1))
}

func TestBadLeases(t *testing.T) {
	l := newLeaseLog(t)
	for _, op := range []*command.Op{{Lease: 0, TTL: 1000}, {Lease: 1 << 63, TTL: 1000}, {Lease: 1, TTL: 999}, {Lease: 1, TTL: command.MaxLeaseTTL + 1}} {
		op.Kind = command.Grant
		l.want(command.Invalid, 1, op)
	}
	l.want(command.LeaseNotFound, 1, leasedOp("k", 1))
	l.want(command.LeaseNotFound, 1, &command.Op{Kind: command.Revoke, Lease: 1})
	if st := l.s.State(); st.Revision != 1 || l.s.LeaseCount() != 0 {
		t.Errorf("%+v, %d leases", st, l.s.LeaseCount())
	}
}

// TestFullLease: whoever asks a full lease for more room makes apply look at all of its
// keys once, not each time, and gets the room once keys have gone.
func TestFullLease(t *testing.T) {
	l := newLeaseLog(t)
	const keys = 1000
	l.do(1, &command.Op{Kind: command.Setting, ID: SettingLeaseKeys, Number: keys})
	l.want(command.OK, 1, grantOp(1))
	key := func(i int) string { return fmt.Sprintf("instance/%04d", i) }
	var ops []*command.Op
	for i := range keys {
		ops = append(ops, leasedOp(key(i), 1))
	}
	l.do(1, ops...)

	looks := func(fn func()) int64 {
		before := l.s.looks.Load()
		fn()
		return l.s.looks.Load() - before
	}
	refused := func() {
		var ops []*command.Op
		for i := range 200 {
			ops = append(ops, leasedOp(fmt.Sprint("more/", i), 1))
		}
		for range 5 {
			for _, res := range l.do(1, ops...) {
				if res.Status != command.TooLarge {
					t.Fatalf("a full lease: %v", res.Status)
				}
			}
		}
	}
	if n := looks(refused); n > 3*keys {
		t.Errorf("1,000 refusals looked %d times", n)
	}
	again := &kv.Txn{}
	for i := range 20 {
		again.Then = append(again.Then, kv.Op{Kind: kv.OpSet, Range: kv.Key(key(i)), Value: []byte("again"), Lease: 1})
	}
	attached := func() { l.want(command.OK, 1, &command.Op{Kind: command.Txn, Txn: again}) }
	attached() // changes 20 keys at one revision
	if n := looks(attached); n > 200 {
		t.Errorf("a transaction that hangs no more keys on a full lease looked %d times", n)
	}

	for i := range keys / checkShare * 2 {
		l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte(key(i))}) // taken off
	}
	l.want(command.OK, 1, leasedOp("more/0", 1))
}

// TestLeaseRowVersion1 can be read.
func TestLeaseRowVersion1(t *testing.T) {
	l, err := decodeLease([]byte{1, 7, 100, 50, 3, 9})
	if want := (Lease{Generation: 7, TTL: millis(100), Remaining: millis(50), Hints: 3, HintBytes: 9}); err != nil || l != want {
		t.Errorf("%+v, %v", l, err)
	}
}
