package replkv

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/transport"
	"github.com/replkv/replkv/transport/memnet"
	"github.com/replkv/replkv/transport/peerpb"
)

// openFuzzed opens a single member that a network may reach, in a bubble.
func openFuzzed(t *testing.T) *DB {
	t.Helper()
	n := memnet.New()
	l, err := n.Listen("a:1")
	if err != nil {
		t.Fatal(err)
	}
	v, err := hook.Open(Config{Dir: "data", ID: "a", Addr: "a:1", Listener: l, Dial: n.Dialer("a"), InsecurePeers: true, CacheBytes: 1 << 20,
		InitialCluster: []Member{{ID: "a", Addr: "a:1"}}}, hook.Edges{FS: disk.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	return v.(*DB)
}

var (
	fuzzFrom    = transport.Identity{From: "b"}
	fuzzSession = command.SessionID{1, 2, 3}
	// fuzzIncarnation stands for the member's own, which it tells its peers.
	fuzzIncarnation = [16]byte([]byte("incarnation-of-a"))
	fuzzSeparator   = []byte("\xfe\xfd")
)

// The first byte of a request says which it is.
const (
	fuzzForward   = iota // a batch, as it is
	fuzzOps              // operations of the session that is open; with fuzzTwo, of two
	fuzzNoSession        // operations without a session
	fuzzChange
	fuzzJoin // with fuzzTwo, with the right token and name
	fuzzLeases
	fuzzConfirm
	fuzzHello
	fuzzMethods
	fuzzTwo = 0x80
)

// fuzzPeer asks a member for one thing, as the transport does. Seq is the newest of the session.
func fuzzPeer(ctx context.Context, t *testing.T, db *DB, how byte, b []byte, seq *uint64) error {
	h := peerHandler{db}
	b = bytes.ReplaceAll(b, fuzzIncarnation[:], db.id.incarnation[:])
	n := 1 + int(how>>7)
	message := func(m proto.Message, call func() (proto.Message, error)) error {
		if proto.Unmarshal(b, m) != nil {
			return nil
		}
		return answered(call())
	}
	switch how & ^byte(fuzzTwo) % fuzzMethods {
	case fuzzForward:
		return fuzzForwarded(ctx, t, h, b)
	case fuzzOps:
		*seq++
		return fuzzForwarded(ctx, t, h, append(command.AppendBatchHeader(nil, fuzzSession, *seq, *seq-1, n), b...))
	case fuzzNoSession:
		return fuzzForwarded(ctx, t, h, append(command.AppendBatchHeader(nil, command.NoSession, 0, 0, n), b...))
	case fuzzChange:
		m := &peerpb.ChangeRequest{}
		return message(m, func() (proto.Message, error) { return h.Change(ctx, m) })
	case fuzzJoin:
		m := &peerpb.JoinRequest{}
		return message(m, func() (proto.Message, error) {
			from := fuzzFrom
			if how&fuzzTwo > 0 {
				m.Token, from.From = db.id.token[:], m.GetId()
			}
			return h.Join(ctx, from, m)
		})
	case fuzzLeases:
		m := &peerpb.LeasesRequest{}
		return message(m, func() (proto.Message, error) {
			out, err := h.Leases(ctx, m)
			if err == nil && len(out.GetLeases()) != len(m.GetIds()) {
				t.Fatalf("%d answers about %d leases", len(out.GetLeases()), len(m.GetIds()))
			}
			return out, err
		})
	case fuzzConfirm:
		term, voter, err := h.Confirm(ctx, uint64(how))
		if term == 0 || !voter {
			t.Fatalf("term %d, a voter: %v", term, voter)
		}
		_, _, err2 := h.ReadIndex(ctx)
		return errors.Join(err, err2)
	}
	return answered(h.Hello(ctx))
}

// answered sees to it that an answer can be sent.
func answered(m proto.Message, err error) error {
	if err == nil {
		_, err = proto.Marshal(m)
	}
	return err
}

// fuzzForwarded forwards a batch: one that is taken has a result for each operation.
func fuzzForwarded(ctx context.Context, t *testing.T, h peerHandler, raw []byte) error {
	out, index, err := h.Forward(ctx, fuzzFrom, bytes.Clone(raw))
	if err != nil {
		return err
	}
	b, err := command.DecodeBatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	res, err := command.DecodeResult(out)
	if err != nil {
		t.Fatal(err)
	}
	if index == 0 || res.Status == command.Applied && len(res.Ops) != b.Len() {
		t.Fatalf("entry %d: %d operations, results %+v", index, b.Len(), res)
	}
	return nil
}

// FuzzPeer: whatever other members ask of one that leads, it answers, with an error of a
// kind that travels if it must, and goes on. What checkBatch lets through to the log does
// not stop apply.
func FuzzPeer(f *testing.F) {
	add := func(parts ...[]byte) { f.Add(bytes.Join(parts, fuzzSeparator)) }
	set := command.AppendOp(nil, &command.Op{Kind: command.Set, Key: []byte("k"), Value: []byte("v")})
	for _, op := range []*command.Op{
		{Kind: command.Set, Key: []byte("a"), Value: []byte("2"), Conditional: true, IfRevision: 2}, {Kind: command.Set, Key: []byte("a"), Lease: 7},
		{Kind: command.Delete, Key: []byte("k"), ReturnPrev: true}, {Kind: command.DeleteRange, Open: true, Key: []byte("a"), ReturnPrev: true},
		{Kind: command.Grant, Lease: 7, TTL: 1000}, {Kind: command.Revoke, Lease: 7}, {Kind: command.Renew, Lease: 7, TTL: 1000, Generation: 2, Term: 1},
		{Kind: command.Epoch, Member: []byte("b")}, {Kind: command.Compact, Revision: 2}, {Kind: command.Setting, ID: store.SettingRangeKeys, Number: 1},
		{Kind: command.Admit, Member: []byte("b"), Incarnation: [16]byte{1}, Fresh: true},
		{Kind: command.OpenSession, Session: command.SessionID{9}}, {Kind: command.OpenSession, Session: command.SessionID{9}, Member: []byte("b"), Ordinal: 1,
			Incarnation: [16]byte{1}, Since: 1, Starts: []command.Start{{Number: 1, Boot: 1}}},
		{Kind: command.OpenSession, Session: command.SessionID{9}, Member: []byte("a"), Ordinal: 1,
			Incarnation: fuzzIncarnation, Since: 1, Starts: []command.Start{{Number: 2, Boot: 1}}},
		{Kind: command.Txn, Txn: &kv.Txn{If: []kv.Compare{kv.Exists("k"), kv.Unchanged(kv.Prefix("x"), 2), kv.ValueIs("k", []byte("v"))},
			Then: []kv.Op{kv.SetOp("c", []byte("3")), kv.SetOp("d", nil), kv.GetOp(kv.All()), kv.DeleteOp(kv.Prefix("k")), kv.TxnOp(kv.Txn{Then: []kv.Op{kv.GetOp(kv.Key("still"))}})},
			Else: []kv.Op{kv.GetOp(kv.All()), kv.DeleteOp(kv.All())}}},
	} {
		b := command.AppendOp(nil, op)
		add(append([]byte{fuzzForward}, append(command.AppendBatchHeader(nil, fuzzSession, 1, 0, 1), b...)...), append([]byte{fuzzOps}, set...),
			append([]byte{fuzzOps}, b...), append([]byte{fuzzOps | fuzzTwo}, append(bytes.Clone(set), b...)...), append([]byte{fuzzNoSession}, b...))
	}
	ask := func(how byte, m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return append([]byte{how}, b...)
	}
	join := &peerpb.JoinRequest{Id: "b", Addr: "b:1", Incarnation: make([]byte, 16)}
	for kind := range peerpb.ChangeKind_name {
		change := func(id string) []byte {
			return ask(fuzzChange, &peerpb.ChangeRequest{Kind: peerpb.ChangeKind(kind), Id: id, Addr: "b:1"})
		}
		add(change(""), change("a"), change("b"), ask(fuzzChange, &peerpb.ChangeRequest{Kind: peerpb.ChangeKind_CHANGE_ADD_NONVOTER, Id: "b", Addr: "b:1"}),
			change("a"), change("b"), []byte{fuzzHello})
	}
	add(ask(fuzzChange, &peerpb.ChangeRequest{Join: join}), ask(fuzzJoin, join), ask(fuzzJoin|fuzzTwo, join), []byte{fuzzConfirm})
	add(append([]byte{fuzzOps}, command.AppendOp(nil, &command.Op{Kind: command.Grant, Lease: 7, TTL: 1000})...),
		ask(fuzzLeases, &peerpb.LeasesRequest{Ids: []int64{7, -1, 0}, KeepAlive: true}), ask(fuzzLeases, &peerpb.LeasesRequest{}))
	f.Fuzz(func(t *testing.T, in []byte) {
		parts := bytes.Split(in, fuzzSeparator)
		if len(in) > 4<<10 || len(parts) > 8 {
			return // more of the same
		}
		synctest.Test(t, func(t *testing.T) {
			db := openFuzzed(t)
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := db.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			goesOn := func() {
				t.Helper()
				rev, err := db.Set(t.Context(), "still", []byte("here"))
				if err != nil {
					t.Fatal(err)
				}
				if it, err := db.Get(t.Context(), "still"); err != nil || it.ModRevision != rev {
					t.Fatalf("%+v, %v, after Set at %d", it, err, rev)
				}
			}
			goesOn() // and has made itself known
			open := append(command.AppendBatchHeader(nil, command.NoSession, 0, 0, 1),
				command.AppendOp(nil, &command.Op{Kind: command.OpenSession, Session: fuzzSession})...)
			if err := fuzzForwarded(t.Context(), t, peerHandler{db}, open); err != nil {
				t.Fatal(err)
			}
			seq := uint64(0)
			for _, part := range parts {
				if len(part) == 0 {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := fuzzPeer(ctx, t, db, part[0], part[1:], &seq)
				cancel()
				if err == nil {
					continue
				}
				e, ok := errors.AsType[*Error](err)
				if !ok {
					t.Fatalf("%x: not of a kind that travels: %T %v", part, err, err)
				}
				if back := wireerr.FromStatus(wireerr.ToStatus(err)); OutcomeOf(back) != e.Outcome {
					t.Fatalf("%v, of outcome %v, arrives as %v, of %v", err, e.Outcome, back, OutcomeOf(back))
				}
			}
			goesOn()
		})
	})
}
