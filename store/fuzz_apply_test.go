package store

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// openFuzz opens a store that may stop: what it was given decides.
func openFuzz(t *testing.T, fs vfs.FS) (*Store, error) {
	s, err := Open("state", Options{FS: fs, MemTableBytes: 64 << 10, CacheBytes: 512 << 10})
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// fuzzEntries makes entries of hostile bytes: what lies between separators is an
// envelope as it is, a batch, or operations in a batch of the session that is open.
func fuzzEntries(in []byte) []Entry {
	entries := []Entry{
		openSessionEntry(1),
		encodeEntry(2, encodeBatch(testSession, 1, 0, grantOp(7), setOp("a", "1"), leasedOp("b", 7))),
		{Index: 3, Term: 1, Kind: Configuration, Data: []byte("c"), Refs: []Ref{{"m", true}}},
	}
	seq := uint64(1)
	for _, part := range bytes.Split(in, fuzzSeparator) {
		if len(part) == 0 {
			continue
		}
		how, body := part[0], part[1:]
		last := entries[len(entries)-1]
		e := Entry{Index: last.Index + 1 + uint64(how>>4&1), Term: last.Term + uint64(how>>5)}
		switch how % 5 {
		case 0:
			e.Data = body
		case 1:
			e.Data = command.AppendEnvelope(nil, command.Envelope{TimeMillis: uint64(len(body)), Batches: [][]byte{body}})
		case 2:
			e.Kind, e.Data, e.Refs = Configuration, body, []Ref{{"m", true}, {string(body), false}}
		default:
			session, n := testSession, 1+int(how>>3&1)
			if how%5 == 4 {
				session = command.NoSession
			} else {
				seq++
			}
			b := append(command.AppendBatchHeader(nil, session, seq, seq-1, n), body...)
			e.Data = command.AppendEnvelope(nil, command.Envelope{TimeMillis: 1 << 20 * uint64(how), Batches: [][]byte{b}})
		}
		entries = append(entries, e)
	}
	return entries
}

var fuzzSeparator = []byte("\xfe\xfd")

// FuzzApply: whatever is committed, apply does not panic, and two members that apply
// it in groups of different sizes answer the same, have the same chain and the same
// data, or stop at the same entry.
func FuzzApply(f *testing.F) {
	for _, op := range []*command.Op{
		setOp("k", "v"), grantOp(9), leasedOp("k", 7), {Kind: command.Set, Key: []byte("a"), Value: []byte("2"), Conditional: true, IfRevision: 2},
		{Kind: command.Delete, Key: []byte("a"), ReturnPrev: true}, {Kind: command.DeleteRange, Open: true, Key: []byte("a"), ReturnPrev: true},
		{Kind: command.Revoke, Lease: 7}, {Kind: command.Renew, Lease: 7, TTL: 1000, Generation: 2, Term: 1}, {Kind: command.Epoch},
		{Kind: command.Compact, Revision: 2}, {Kind: command.Setting, ID: SettingRangeKeys, Number: 1},
		{Kind: command.Admit, Member: []byte("n"), Incarnation: [16]byte{1}, Fresh: true},
		{Kind: command.OpenSession, Session: testSession, Member: []byte("m"), Ordinal: 2, Starts: testStarts},
		{Kind: command.Txn, Txn: &kv.Txn{If: []kv.Compare{kv.Exists("a"), kv.Unchanged(kv.Prefix("x"), 2)},
			Then: []kv.Op{kv.SetOp("c", []byte("3")), kv.GetOp(kv.All()), kv.DeleteOp(kv.Prefix("b"))}}},
	} {
		body := command.AppendOp(nil, op)
		for _, how := range []byte{3, 4, 8} {
			f.Add(append([]byte{how}, body...), uint8(2))
			f.Add(bytes.Join([][]byte{append([]byte{3}, body...), append([]byte{3}, command.AppendOp(nil, setOp("a", "4"))...), append([]byte{how}, body...)}, fuzzSeparator), uint8(3))
		}
		f.Add(append([]byte{0}, command.AppendEnvelope(nil, command.Envelope{Batches: [][]byte{encodeBatch(testSession, 2, 1, op)}})...), uint8(1))
		f.Add(append([]byte{1}, encodeBatch(testSession, 2, 1, op)...), uint8(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, group uint8) {
		if len(in) > 4<<10 {
			return // more of the same
		}
		entries := fuzzEntries(in)
		one, oneErr := applyGroups(t, entries, 1)
		many, manyErr := applyGroups(t, entries, 1+int(group%8))
		if (oneErr == nil) != (manyErr == nil) {
			t.Fatalf("one by one: %v, in groups of %d: %v", oneErr, 1+group%8, manyErr)
		}
		if oneErr != nil {
			checkError(t, oneErr)
			checkError(t, manyErr)
			return
		}
		if one.state != many.state || one.sum != many.sum || one.answers != many.answers {
			t.Fatalf("one by one:\n%+v\nin groups of %d:\n%+v", one, 1+group%8, many)
		}
	})
}

// applied is what a member has and said after it applied everything.
type applied struct {
	state   State
	sum     [32]byte
	answers string
}

func applyGroups(t *testing.T, entries []Entry, n int) (out applied, err error) {
	s, err := openFuzz(t, vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	var answers []byte
	for len(entries) > 0 {
		k := min(n, len(entries))
		results, err := s.Apply(entries[:k])
		if err != nil {
			return out, err
		}
		for _, r := range results {
			for _, b := range r.Batches {
				answers = command.AppendResult(answers, b)
			}
		}
		entries = entries[k:]
	}
	out.state, out.answers = s.State(), string(answers)
	if out.state.Revision >= out.state.Compacted {
		out.sum, _, err = s.HashAt(0)
	}
	return out, err
}

// FuzzForeignRow: a row that is none of ours, of any space, is refused when the store
// opens, installs or reads it; or does no harm.
func FuzzForeignRow(f *testing.F) {
	lease := (&Lease{Generation: 3, TTL: 60e9, Remaining: 1e9}).append(nil)
	for _, k := range [][]byte{stateKey, configKey, settingKey(2), sessionKey(goldenSession), sessionResultKey(goldenSession, 2), indexKey(2, 0),
		leaseKey(7), hintKey(7, []byte("a")), memberKey("m"), appendVersion(appendBare(nil, "a"), 3)} {
		f.Add(k[:len(k)-1], lease, uint64(0))
	}
	f.Add([]byte("\x10a\x00"), (&row{value: []byte("x")}).encode(), uint64(9))
	f.Add([]byte{spaceLease}, lease, uint64(1))
	f.Add([]byte{spaceHint}, []byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, prefix, value []byte, rev uint64) {
		key := legal(prefix, rev)
		if len(prefix) == 0 || len(key) > 4<<10 || !isLegal(key) {
			return
		}
		fs := vfs.NewMem()
		s, err := openFuzz(t, fs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(fuzzEntries(nil)); err != nil {
			t.Fatal(err)
		}
		if err := s.eng.Load().db.Set(key, value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Flush(); err != nil { // it says how far the state is durable, which it reads
			checkError(t, err)
		}
		if c, err := s.Checkpoint(); err != nil {
			checkError(t, err)
		} else {
			b, err := io.ReadAll(c.Reader([16]byte{}))
			if err = errors.Join(err, c.Close()); err != nil {
				t.Fatal(err)
			}
			receiveFuzzed(t, b, nil)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openFuzz(t, fs); err != nil {
			checkError(t, err)
			return
		}
		_, _, _ = s.HashAt(0)
		_, _ = readChanges(s, ChangesQuery{After: 1, Want: every})
		next := s.State().Index + 1
		if _, err := s.Apply([]Entry{encodeEntry(next, encodeBatch(testSession, 2, 1, leasedOp("c", 7), &command.Op{Kind: command.Revoke, Lease: 7}))}); err != nil {
			checkError(t, err)
		}
	})
}
