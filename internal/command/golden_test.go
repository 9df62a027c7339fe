package command

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/replkv/replkv/kv"
)

var update = flag.Bool("update", false, "write the golden files")

// encoded is a named thing as it goes through the log. What was once written
// must be read for ever: a golden file that changes breaks replicas that run
// the version before.
type encoded struct {
	name string
	b    []byte
}

func checkGolden(t *testing.T, file string, things []encoded) {
	t.Helper()
	var out strings.Builder
	for _, e := range things {
		fmt.Fprintf(&out, "%s\n\t%s\n", e.name, hex.EncodeToString(e.b))
	}
	path := filepath.Join("testdata", file+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the format of %s has changed: got\n%swant\n%s", file, out.String(), want)
	}
}

var goldenSession = SessionID{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// goldenOps are all kinds of operations with all their flags.
func goldenOps() []Op {
	key := []byte("key\x00")
	return []Op{
		{Kind: Set, Key: key, Value: []byte("value")},
		{Kind: Set, Key: key},
		{Kind: Set, Key: key, Value: []byte("v"), Conditional: true},
		{Kind: Set, Key: key, Value: []byte("v"), Conditional: true, IfRevision: 300},
		{Kind: Set, Key: key, Value: []byte("v"), Lease: 1 << 40},
		{Kind: Set, Key: key, Value: []byte("v"), Conditional: true, IfRevision: 7, Lease: 9},
		{Kind: Delete, Key: key},
		{Kind: Delete, Key: key, ReturnPrev: true},
		{Kind: Delete, Key: key, Conditional: true, IfRevision: 300},
		{Kind: Delete, Key: key, Conditional: true, ReturnPrev: true},
		{Kind: DeleteRange, Key: []byte("a"), To: []byte("b")},
		{Kind: DeleteRange, Key: []byte("a"), To: []byte("b"), ReturnPrev: true, MaxKeys: 1000},
		{Kind: DeleteRange, Key: []byte("a"), Open: true, MaxKeys: 1},
		{Kind: DeleteRange, Open: true, ReturnPrev: true},
		{Kind: Epoch, Member: []byte("n1")},
		{Kind: OpenSession, Session: goldenSession, Member: []byte("n1"), Ordinal: 3, Incarnation: goldenSession, Since: 400,
			Starts: []Start{{Number: 5, Boot: 0x0102030405060708}, {Number: 300, Boot: 9}}},
		{Kind: OpenSession, Session: goldenSession},
		{Kind: Compact, Revision: 1 << 33},
		{Kind: Setting, ID: 2, Number: 16 << 20},
		{Kind: Admit, Member: []byte("n4"), Incarnation: goldenSession, Promote: true, Fresh: true},
		{Kind: Admit, Member: []byte("n4")},
		{Kind: Grant, Lease: 1 << 40, TTL: 60_000},
		{Kind: Revoke, Lease: 1 << 40},
		{Kind: Revoke, Lease: 1 << 40, Term: 3, Generation: 300},
		{Kind: Renew, Lease: 1 << 40, TTL: 30_000, Term: 3, Generation: 300},
		{Kind: Txn, Txn: &kv.Txn{}},
		{Kind: Txn, Txn: goldenTxn()},
	}
}

// goldenTxn has all targets, relations, forms of a range, kinds and flags.
func goldenTxn() *kv.Txn {
	set := kv.SetOp("k", []byte("v"))
	set.Lease, set.ReturnPrev = 300, true
	get := kv.GetOp(kv.Between("a", "c"))
	get.Limit, get.Reverse, get.KeysOnly = 1000, true, true
	count := kv.GetOp(kv.All())
	count.CountOnly = true
	remove := kv.DeleteOp(kv.From("x"))
	remove.ReturnPrev = true
	return &kv.Txn{
		If: []kv.Compare{kv.Exists("k\x00"), kv.ValueIs("k", []byte("old")), kv.Unchanged(kv.Prefix("p"), 300),
			{Range: kv.From("a"), Target: kv.TargetCreateRevision, Is: kv.Less, Number: 7},
			{Range: kv.Key("a"), Target: kv.TargetLease, Is: kv.NotEqual, Number: 1 << 40}, kv.RevisionIs("k", 9)},
		Then: []kv.Op{set, get, count, remove},
		Else: []kv.Op{kv.TxnOp(kv.Txn{If: []kv.Compare{kv.Absent("z")}, Then: []kv.Op{kv.SetOp("z", nil)}})},
	}
}

func describe(op *Op) string {
	s := op.Kind.String()
	add := func(set bool, what string) {
		if set {
			s += " " + what
		}
	}
	add(op.Conditional, fmt.Sprintf("if revision %d", op.IfRevision))
	add(op.ReturnPrev, "return prev")
	add(op.Open, "open")
	add(op.Lease != 0, fmt.Sprintf("lease %d", op.Lease))
	add(op.MaxKeys != 0, fmt.Sprintf("max keys %d", op.MaxKeys))
	add(op.TTL != 0, fmt.Sprintf("ttl %d", op.TTL))
	add(op.Term != 0, fmt.Sprintf("of term %d", op.Term))
	add(len(op.Member) > 0, "of member")
	add(op.Kind == Set && len(op.Value) == 0, "empty value")
	add(op.Kind == Txn, fmt.Sprintf("of size %d", op.size()))
	return s
}

func (op *Op) size() int {
	if op.Txn == nil {
		return 0
	}
	return op.Txn.Size()
}

func TestGoldenOps(t *testing.T) {
	var things []encoded
	for _, op := range goldenOps() {
		b := AppendOp(nil, &op)
		things = append(things, encoded{describe(&op), b})
		if OpLen(&op) != len(b) {
			t.Errorf("%s: OpLen %d, it has %d", describe(&op), OpLen(&op), len(b))
		}
		var back Op
		d := decoder{b: b}
		if err := decodeOp(&d, &back); err != nil || len(d.b) != 0 || !bytes.Equal(AppendOp(nil, &back), b) ||
			op.Kind != Txn && fmt.Sprintf("%v", back) != fmt.Sprintf("%v", op) {
			t.Errorf("%s: came back as %+v, %v", describe(&op), back, err)
		}
	}
	checkGolden(t, "op", things)
}

func goldenBatches() []encoded {
	ops := goldenOps()
	batch := func(id SessionID, seq, low uint64, ops ...Op) []byte {
		b := AppendBatchHeader(nil, id, seq, low, len(ops))
		for i := range ops {
			b = AppendOp(b, &ops[i])
		}
		return b
	}
	return []encoded{
		{"a session's batch, seq 300, low-water 298, two operations", batch(goldenSession, 300, 298, ops[0], ops[6])},
		{"without a session, an epoch", batch(NoSession, 0, 0, ops[14])},
		{"without operations", batch(goldenSession, 1, 0)},
	}
}

func TestGoldenBatches(t *testing.T) {
	things := goldenBatches()
	for _, e := range things {
		b, err := DecodeBatch(e.b)
		if err != nil {
			t.Fatal(err)
		}
		back := AppendBatchHeader(nil, b.Session, b.Seq, b.LowWater, b.Len())
		err = b.Ops(func(_ int, op *Op) error { back = AppendOp(back, op); return nil })
		if err != nil || !bytes.Equal(back, e.b) {
			t.Errorf("%s: came back as %x, %v", e.name, back, err)
		}
	}
	checkGolden(t, "batch", things)
}

func TestGoldenEnvelopes(t *testing.T) {
	batches := goldenBatches()
	var things []encoded
	for name, e := range map[string]Envelope{"2": {TimeMillis: 1_700_000_000_000, Batches: [][]byte{batches[0].b, batches[1].b}}, "0": {}} {
		b := AppendEnvelope(nil, e)
		back, err := DecodeEnvelope(b)
		if err != nil || back.TimeMillis != e.TimeMillis || len(back.Batches) != len(e.Batches) ||
			!bytes.Equal(AppendEnvelope(nil, back), b) {
			t.Errorf("%s batches came back as %+v, %v", name, back, err)
		}
		things = append(things, encoded{name + " batches", b})
	}
	if things[0].name > things[1].name {
		things[0], things[1] = things[1], things[0]
	}
	checkGolden(t, "envelope", things)
}

func goldenResults() map[string]*BatchResult {
	prev := []PrevItem{{Key: []byte("k\x00"), Value: []byte("v"), Create: 2, Mod: 300, Version: 4, Lease: 5}, {Key: []byte("l"), Mod: 1}}
	full := &BatchResult{Status: Applied, Ops: []OpResult{
		{Status: OK, Revision: 301, Deleted: 2, Prev: prev},
		{Status: Conflict, Revision: 301}, {Status: TooLarge, Revision: 301}, {Status: Compacted, Revision: 301},
		{Status: Future, Revision: 301}, {Status: Invalid, Revision: 301}, {Status: DroppedReply, Revision: 301, Deleted: 9},
		{Status: Exists, Revision: 301}, {Status: LeaseNotFound, Revision: 301},
	}}
	txn := &BatchResult{Status: Applied, Ops: []OpResult{{Status: OK, Revision: 4}, {Status: OK, Revision: 5, Response: goldenResponse()}}}
	return map[string]*BatchResult{
		"1 applied, all statuses":            full,
		"2 applied, responses dropped":       full.WithoutResponses(),
		"3 unknown session":                  {Status: UnknownSession},
		"4 below low-water":                  {Status: BelowLowWater},
		"5 outside window":                   {Status: OutsideWindow},
		"6 applied, one operation":           {Status: Applied, Ops: []OpResult{{Status: OK, Revision: 2}}},
		"7 applied, a deletion with no prev": {Status: Applied, Ops: []OpResult{{Status: OK, Revision: 3, Deleted: 1}}},
		"8 applied, a transaction":           txn,
		"9 the same, its response dropped":   txn.WithoutResponses(),
	}
}

func goldenResponse() []byte {
	item := kv.Item{Key: "k", Value: []byte("v"), CreateRevision: 2, ModRevision: 300, Version: 4, Lease: 5}
	return AppendTxnResult(nil, &kv.TxnResult{Succeeded: true, Results: []kv.OpResult{
		{}, {Items: []kv.Item{item, {Key: "l", Value: []byte{}}}, Count: 2, More: true}, {Count: 300},
		{Txn: &kv.TxnResult{Results: []kv.OpResult{{Items: []kv.Item{item}}}}},
	}})
}

func TestGoldenResponses(t *testing.T) {
	b := goldenResponse()
	r, err := DecodeTxnResult(b)
	if err != nil || !bytes.Equal(AppendTxnResult(nil, &r), b) || r.Results[1].Items[0].Version != 4 || r.Results[3].Txn.Succeeded {
		t.Errorf("came back as %+v, %v", r, err)
	}
	for n := range b {
		if _, err := DecodeTxnResult(b[:n]); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// A transaction nested too deep is refused when it is decoded, before it can use
// up the stack.
func TestDeepTxn(t *testing.T) {
	nest := func(depth int) []byte {
		txn := kv.Txn{}
		for range depth - 1 {
			txn = kv.Txn{Then: []kv.Op{kv.TxnOp(txn)}}
		}
		if err := txn.Validate(); (err == nil) != (depth <= kv.MaxTxnDepth) {
			t.Errorf("depth %d: %v", depth, err)
		}
		return AppendOp(nil, &Op{Kind: Txn, Txn: &txn})
	}
	if err := opError(nest(kv.MaxTxnDepth)); err != nil {
		t.Error(err)
	}
	if err := opError(nest(kv.MaxTxnDepth + 1)); !errors.Is(err, kv.ErrCorrupt) {
		t.Error(err)
	}
}

func TestGoldenResults(t *testing.T) {
	results := goldenResults()
	var things []encoded
	for n := range len(results) {
		for name, r := range results {
			if !strings.HasPrefix(name, fmt.Sprint(n+1)) {
				continue
			}
			b := AppendResult(nil, r)
			things = append(things, encoded{name, b})
			if back, err := DecodeResult(b); err != nil || !bytes.Equal(AppendResult(nil, back), b) {
				t.Errorf("%s: came back as %+v, %v", name, back, err)
			}
		}
	}
	checkGolden(t, "result", things)
}

// A newer version is told apart from damage, at every level.
func TestNewerVersions(t *testing.T) {
	op := AppendOp(nil, &Op{Kind: Delete, Key: []byte("k")})
	newerOp, newerKind := bytes.Clone(op), bytes.Clone(op)
	newerOp[1]++
	newerKind[0] = byte(Renew) + 1
	envelope := AppendEnvelope(nil, Envelope{})
	envelope[0]++
	result := AppendResult(nil, &BatchResult{Status: Applied})
	result[0] = resultVersionResponses + 1
	for name, err := range map[string]error{
		"operation":      opError(newerOp),
		"operation kind": opError(newerKind),
		"envelope":       func() error { _, err := DecodeEnvelope(withSum(envelope[:len(envelope)-4])); return err }(),
		"result":         func() error { _, err := DecodeResult(result); return err }(),
	} {
		if !errors.Is(err, kv.ErrFormatTooNew) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func opError(op []byte) error {
	b, err := DecodeBatch(append(AppendBatchHeader(nil, goldenSession, 1, 0, 1), op...))
	if err != nil {
		return err
	}
	return b.Ops(func(int, *Op) error { return nil })
}

// Every bit of an envelope is covered by its checksum.
func TestFlippedBits(t *testing.T) {
	b := AppendEnvelope(nil, Envelope{TimeMillis: 1_700_000_000_000, Batches: [][]byte{goldenBatches()[0].b}})
	for i := range len(b) * 8 {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		if _, err := DecodeEnvelope(c); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range b {
		if _, err := DecodeEnvelope(b[:n]); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}
