package store

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// txn is the answer to a transaction.
func (m *model) txn(t *kv.Txn) command.OpResult {
	if t.Validate() != nil {
		return command.OpResult{Status: command.Invalid}
	}
	res, err := m.Txn(t)
	switch err {
	case kv.ErrTooLarge:
		return command.OpResult{Status: command.TooLarge}
	case kv.ErrLeaseNotFound:
		return command.OpResult{Status: command.LeaseNotFound}
	}
	return command.OpResult{Status: command.OK, Response: command.AppendTxnResult(nil, &res)}
}

// apply applies operations as one entry of a session, and returns their results.
func (s *Store) applyOps(t *testing.T, ops ...*command.Op) []command.OpResult {
	t.Helper()
	index := s.State().Index + 1
	if index == 1 {
		if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil {
			t.Fatal(err)
		}
		index++
	}
	res, err := s.Apply([]Entry{encodeEntry(index, encodeBatch(testSession, index, index-1, ops...))})
	if err != nil {
		t.Fatal(err)
	}
	return res[0].Batches[0].Ops
}

func txnOp(txn kv.Txn) *command.Op { return &command.Op{Kind: command.Txn, Txn: &txn} }

// A transaction beyond a limit has no effect at all, also what came before the step
// that was too much, and what follows it in the entry sees none of it.
func TestTxnTooLarge(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	for id, n := range map[uint64]uint64{SettingRangeKeys: 3, SettingResponseBytes: 100} {
		if r := s.applyOps(t, &command.Op{Kind: command.Setting, ID: id, Number: n}); r[0].Status != command.OK {
			t.Fatal(r)
		}
	}
	set := func(k string, n int) *command.Op {
		return &command.Op{Kind: command.Set, Key: []byte(k), Value: make([]byte, n)}
	}
	s.applyOps(t, set("a", 1), set("b", 1), set("c", 1), set("d", 1), set("big", 200))
	prev := kv.SetOp("big", nil)
	prev.ReturnPrev = true
	for name, last := range map[string]kv.Op{
		"keys":             kv.GetOp(kv.All()),
		"keys counted":     {Kind: kv.OpGet, Range: kv.All(), CountOnly: true},
		"keys backward":    {Kind: kv.OpGet, Range: kv.All(), Limit: 1, Reverse: true},
		"keys deleted":     kv.DeleteOp(kv.Between("b", "e")),
		"bytes":            kv.GetOp(kv.Key("big")),
		"previous":         prev,
		"compared, nested": kv.TxnOp(kv.Txn{If: []kv.Compare{{Range: kv.All(), Target: kv.TargetVersion, Is: kv.Greater}}}),
	} {
		before := s.State().Revision
		r := s.applyOps(t, set("seen", 2), txnOp(kv.Txn{Then: []kv.Op{kv.SetOp("a", []byte("new")), kv.SetOp("seen", nil), kv.SetOp("fresh", nil), last}}),
			txnOp(kv.Txn{If: []kv.Compare{kv.ValueIs("a", []byte{0}), kv.ValueIs("seen", []byte{0, 0}), kv.Absent("fresh")}}))
		if r[1].Status != command.TooLarge || r[1].Response != nil {
			t.Errorf("%s: %+v", name, r[1])
		}
		if res, err := command.DecodeTxnResult(r[2].Response); err != nil || !res.Succeeded {
			t.Errorf("%s: what follows sees some of it", name)
		}
		if got := s.State().Revision; got != before+1 {
			t.Errorf("%s: revision %d after %d and one Set", name, got, before)
		}
	}
	if r := s.applyOps(t, txnOp(kv.Txn{Then: []kv.Op{{Kind: kv.OpGet, Range: kv.All(), Limit: 3, KeysOnly: true}}})); r[0].Status != command.TooLarge {
		t.Errorf("a limit that needs a fourth key: %+v", r[0])
	}
	if r := s.applyOps(t, txnOp(kv.Txn{Then: []kv.Op{{Kind: kv.OpGet, Range: kv.All(), Limit: 2}}})); r[0].Status != command.OK {
		t.Errorf("a limit within: %+v", r[0])
	}
}

// A comparison with a revision looks at most at so many entries, and holds for
// none that is older; at a single key it always can.
func TestUnchangedIsBounded(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	s.applyOps(t, &command.Op{Kind: command.Setting, ID: SettingIndexRows, Number: 5})
	set := &command.Op{Kind: command.Set, Key: []byte("other")}
	s.applyOps(t, set)
	since := s.State().Revision
	unchanged := func(r kv.Range) bool {
		res, err := command.DecodeTxnResult(s.applyOps(t, txnOp(kv.Txn{If: []kv.Compare{kv.Unchanged(r, since)}}))[0].Response)
		if err != nil {
			t.Fatal(err)
		}
		return res.Succeeded
	}
	for i := range 6 {
		if got := unchanged(kv.Prefix("k")); got != (i <= 5) {
			t.Errorf("after %d entries: %v", i, got)
		}
		s.applyOps(t, set)
	}
	if unchanged(kv.Prefix("k")) || !unchanged(kv.Key("k")) || unchanged(kv.Key("other")) {
		t.Error("after 6 entries")
	}
	s.applyOps(t, &command.Op{Kind: command.Compact, Revision: uint64(since) + 1})
	if unchanged(kv.Key("k")) {
		t.Error("holds since a compacted revision")
	}
}

// TestUnchangedWhateverBatches: what a comparison with a revision may look into does
// not depend on where Pebble batches end, which each member decides for itself.
func TestUnchangedWhateverBatches(t *testing.T) {
	var entries []Entry
	add := func(ops ...*command.Op) {
		index := uint64(len(entries)) + 1
		entries = append(entries, encodeEntry(index, encodeBatch(testSession, index, index-1, ops...)))
	}
	entries = append(entries, openSessionEntry(1),
		encodeEntry(2, encodeBatch(command.NoSession, 0, 0, &command.Op{Kind: command.Setting, ID: SettingIndexRows, Number: 5})))
	for range 12 {
		add(&command.Op{Kind: command.Set, Key: []byte("other")})
	}
	for since := int64(2); since < 14; since++ {
		add(txnOp(kv.Txn{If: []kv.Compare{kv.Unchanged(kv.Prefix("k"), kv.Revision(since))}, Then: []kv.Op{kv.SetOp(fmt.Sprint("then", since), nil)}}))
	}
	chain := func(group int) (State, int) {
		s := openMem(t, vfs.NewMem())
		for i := 0; i < len(entries); i += group {
			if _, err := s.Apply(entries[i:min(i+group, len(entries))]); err != nil {
				t.Fatal(err)
			}
		}
		items, _, _, err := s.Scan(kv.Prefix("then"), Page{})
		if err != nil {
			t.Fatal(err)
		}
		return s.State(), len(items)
	}
	want, n := chain(1)
	if n == 0 || n == 12 {
		t.Fatalf("%d of 12 comparisons hold: the test shows nothing", n)
	}
	for group := 2; group <= len(entries); group++ {
		if got, n := chain(group); got != want {
			t.Fatalf("%d entries at a time: %d comparisons hold, %+v; want %+v", group, n, got, want)
		}
	}
}

// TestManyResponses: the answers of an entry's transactions are bounded together; the
// small ones stay, and of the others which branch was taken.
func TestManyResponses(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	s.applyOps(t, &command.Op{Kind: command.Set, Key: []byte("large"), Value: make([]byte, 900<<10)})
	var ops []*command.Op
	for range 10 {
		ops = append(ops, txnOp(kv.Txn{If: []kv.Compare{kv.Absent("large")}, Else: []kv.Op{kv.GetOp(kv.Key("large"))}}),
			txnOp(kv.Txn{Then: []kv.Op{kv.GetOp(kv.Key("nothing"))}}))
	}
	size, whole := 0, 0
	for i, r := range s.applyOps(t, ops...) {
		size += len(r.Response)
		res, err := command.DecodeTxnResult(r.Response)
		if err != nil || res.Succeeded != (i%2 == 1) {
			t.Fatalf("transaction %d: %+v, %v", i, res, err)
		}
		switch {
		case i%2 == 1 && r.Status != command.OK:
			t.Errorf("the small answer %d was dropped", i)
		case i%2 == 0 && r.Status == command.OK:
			whole++
		}
	}
	if size > maxEntryResponses+1<<20 || whole == 0 || whole == 10 {
		t.Errorf("%d bytes of answers, %d of 10 large ones", size, whole)
	}
}

// TestManyPrevious: what the deletions of one entry return is bounded together, and the
// memory for it is not kept.
func TestManyPrevious(t *testing.T) {
	l := newLeaseLog(t)
	const keys, size = 48, 1 << 20
	var ops []*command.Op
	for i := range keys {
		key := fmt.Appendf(nil, "k%03d", i)
		l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: key, Value: make([]byte, size)})
		ops = append(ops, &command.Op{Kind: command.Delete, Key: key, ReturnPrev: true})
	}
	l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte("small"), Value: []byte("v")})
	ops = append(ops, &command.Op{Kind: command.Delete, Key: []byte("small"), ReturnPrev: true})
	whole, bytes := 0, 0
	res := l.do(1, ops...)
	for _, r := range res[:keys] {
		bytes += r.PrevBytes()
		if r.Status == command.OK {
			whole++
		} else if r.Status != command.DroppedReply || r.Deleted != 1 || r.Prev != nil {
			t.Fatalf("%+v", r)
		}
	}
	if bytes > 17<<20 || whole != 15 {
		t.Errorf("%d deletions returned %d MiB together", whole, bytes>>20)
	}
	if last := res[keys]; last.Status != command.OK || len(last.Prev) != 1 {
		t.Errorf("a small one: %+v", last)
	}
	l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte("k")})
	if n := cap(l.s.apply.applier.scratch); n > 2*maxScratch {
		t.Errorf("%d bytes are kept", n)
	}
}
