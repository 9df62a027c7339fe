package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// fuzzServer answers each RPC, and each Recv of a stream, with the next part of the
// input: a message, a status, or the end.
type fuzzServer struct {
	mu      sync.Mutex // protects the field below
	parts   [][]byte
	session bool // it opens sessions as it should
}

var fuzzSeparator = []byte("\xfe\xfd")

// The first byte of a part.
const (
	fuzzMessage = iota
	fuzzStatus
	fuzzEnd
	fuzzKinds
)

func (s *fuzzServer) answer(m any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.parts) > 0 {
		part := s.parts[0]
		s.parts = s.parts[1:]
		if len(part) == 0 {
			continue
		}
		switch part[0] % fuzzKinds {
		case fuzzEnd:
			return io.EOF
		case fuzzStatus:
			p := status.New(codes.OK, "").Proto()
			if err := proto.Unmarshal(part[1:], p); err == nil && p.GetCode() != int32(codes.OK) {
				return status.FromProto(p).Err()
			}
		default:
			if proto.Unmarshal(part[1:], m.(proto.Message)) == nil {
				return nil
			}
			proto.Reset(m.(proto.Message))
		}
	}
	return status.Error(codes.Internal, "no more")
}

func (s *fuzzServer) Invoke(_ context.Context, method string, _, reply any, opts ...grpc.CallOption) error {
	for _, o := range opts {
		if o, ok := o.(grpc.PeerCallOption); ok {
			o.PeerAddr.Addr = fuzzAddr{} // it was sent
		}
	}
	if m, ok := reply.(*replkvv1.OpenSessionResponse); ok && s.session {
		m.Session = make([]byte, sessionBytes)
		return nil
	}
	err := s.answer(reply)
	if err == io.EOF {
		return status.Error(codes.Unavailable, method)
	}
	return err
}

func (s *fuzzServer) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &fuzzStream{ctx: ctx, s: s}, nil
}

// client returns a client that s answers.
func (s *fuzzServer) client(t *testing.T) *Client {
	w := newWorld()
	w.serve(t, "a", nil)
	c := w.client(t, Config{RequestTimeout: time.Second}, "a")
	c.endpoints[0].rpc = services{replkvv1.NewKVClient(s), replkvv1.NewLeaseClient(s), replkvv1.NewClusterClient(s)}
	return c
}

type fuzzAddr struct{}

func (fuzzAddr) Network() string { return "fuzz" }
func (fuzzAddr) String() string  { return "fuzz" }

type fuzzStream struct {
	grpc.ClientStream
	ctx context.Context
	s   *fuzzServer
}

func (s *fuzzStream) Header() (metadata.MD, error) { return nil, nil }
func (s *fuzzStream) SendMsg(any) error            { return nil }
func (s *fuzzStream) CloseSend() error             { return nil }
func (s *fuzzStream) Context() context.Context     { return s.ctx }

func (s *fuzzStream) RecvMsg(m any) error {
	if s.ctx.Err() != nil {
		return status.FromContextError(s.ctx.Err()).Err()
	}
	return s.s.answer(m)
}

// errBadAnswer is what a call of the client must not return.
var errBadAnswer = errors.New("an answer out of bounds")

func inBounds(l kv.LeaseInfo) error {
	if l.TTL < 0 || l.TTL > kv.MaxLeaseTTL || l.Remaining < 0 || l.Remaining > kv.MaxLeaseTTL {
		return errBadAnswer
	}
	return nil
}

type fuzzCall struct {
	name string
	do   func(ctx context.Context, c *Client) error
}

// fuzzCalls are all calls of a client.
var fuzzCalls = []fuzzCall{
	{"Get", func(ctx context.Context, c *Client) error { _, err := c.Get(ctx, "k"); return err }},
	{"GetLocal", func(ctx context.Context, c *Client) error {
		it, err := c.Get(ctx, "k", kv.Local())
		if err == nil && it.Value == nil {
			return errBadAnswer
		}
		return err
	}},
	{"GetMany", func(ctx context.Context, c *Client) error {
		keys := []string{"a", "b", "c"}
		got, err := c.GetMany(ctx, keys...)
		for k := range got {
			if !slices.Contains(keys, k) {
				return errBadAnswer
			}
		}
		return err
	}},
	{"Scan", func(ctx context.Context, c *Client) error {
		for it, err := range c.Scan(ctx, kv.All()) {
			if err != nil || it.Value == nil {
				return err
			}
		}
		return nil
	}},
	{"Watch", func(ctx context.Context, c *Client) error {
		n := 0
		for change, err := range c.Watch(ctx, kv.All(), kv.WithPrevious(), kv.AfterRevision(1)) {
			if err != nil {
				return err
			}
			for _, e := range change.Events {
				if e.Kind != kv.EventPut && e.Kind != kv.EventDelete {
					return errBadAnswer
				}
			}
			if n++; n > 20 {
				break
			}
		}
		return nil
	}},
	{"Set", func(ctx context.Context, c *Client) error { _, err := c.Set(ctx, "k", []byte("v")); return err }},
	{"Delete", func(ctx context.Context, c *Client) error { _, err := c.Delete(ctx, "k", kv.ReturnPrev()); return err }},
	{"DeleteRange", func(ctx context.Context, c *Client) error {
		_, err := c.DeleteRange(ctx, kv.All(), kv.ReturnPrev())
		return err
	}},
	{"Txn", func(ctx context.Context, c *Client) error {
		inner := kv.Txn{Then: []kv.Op{kv.GetOp(kv.All())}}
		_, err := c.Txn(ctx, kv.Txn{If: []kv.Compare{kv.Exists("a")}, Then: []kv.Op{kv.SetOp("c", nil), kv.GetOp(kv.All()), kv.TxnOp(inner)}, Else: []kv.Op{kv.TxnOp(inner)}})
		return err
	}},
	{"Update", func(ctx context.Context, c *Client) error {
		_, err := c.Update(ctx, func(tx *kv.Tx) error {
			_, err := tx.Get("k")
			return errors.Join(err, tx.Set("k", nil))
		})
		return err
	}},
	{"Grant", func(ctx context.Context, c *Client) error { _, err := c.Grant(ctx, time.Minute); return err }},
	{"Revoke", func(ctx context.Context, c *Client) error { return c.Revoke(ctx, 7) }},
	{"KeepAliveOnce", func(ctx context.Context, c *Client) error {
		ttl, err := c.KeepAliveOnce(ctx, 7)
		return errors.Join(err, inBounds(kv.LeaseInfo{TTL: ttl}))
	}},
	{"KeepAlive", func(ctx context.Context, c *Client) error { return c.KeepAlive(ctx, 7) }},
	{"TimeToLive", func(ctx context.Context, c *Client) error {
		l, err := c.TimeToLive(ctx, 7)
		return errors.Join(err, inBounds(l))
	}},
	{"Leases", func(ctx context.Context, c *Client) error {
		all, err := c.Leases(ctx)
		for _, l := range all {
			err = errors.Join(err, inBounds(l))
		}
		return err
	}},
	{"Revision", func(ctx context.Context, c *Client) error { _, err := c.Revision(ctx); return err }},
	{"Compact", func(ctx context.Context, c *Client) error { return c.Compact(ctx, 2) }},
	{"Members", func(ctx context.Context, c *Client) error { _, err := c.Members(ctx); return err }},
	{"Remove", func(ctx context.Context, c *Client) error { _, err := c.Remove(ctx, "b"); return err }},
	{"Transfer", func(ctx context.Context, c *Client) error { return c.TransferLeadership(ctx, "") }},
	{"Backup", func(ctx context.Context, c *Client) error {
		var b bytes.Buffer
		n, err := c.Backup(ctx, &b)
		if n != int64(b.Len()) {
			return errBadAnswer
		}
		return err
	}},
}

// FuzzAnswer: whatever a server answers, of whatever call, the client returns, with an
// error of its kind or a value within its limits.
func FuzzAnswer(f *testing.F) {
	item := &replkvv1.Item{Key: []byte("k"), Value: []byte("v"), CreateRevision: 2, ModRevision: 3, Version: 2, Lease: 7}
	txn := &replkvv1.TxnResponse{Succeeded: true, Revision: 4, Results: []*replkvv1.OperationResult{{}, {Items: []*replkvv1.Item{item}, Count: 1},
		{Txn: &replkvv1.TxnResponse{Results: []*replkvv1.OperationResult{{Items: []*replkvv1.Item{item}}}}}}}
	conflict := status.Convert(wireerr.ToStatus(&kv.Error{Op: "Set", Outcome: kv.OutcomeNotDone, Err: kv.ErrConflict})).Proto()
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	part := func(how byte, m proto.Message) []byte { return append([]byte{how}, marshal(m)...) }
	lease := &replkvv1.LeaseInfo{Id: 7, TtlMs: 1000, RemainingMs: 1 << 62, Keys: [][]byte{[]byte("k")}}
	write := func(r *replkvv1.WriteResult) []byte {
		return part(fuzzMessage, &replkvv1.WriteResponse{Results: []*replkvv1.WriteResult{r}})
	}
	put := &replkvv1.Event{Kind: replkvv1.Event_KIND_PUT, Item: item, Prev: item}
	for _, seed := range []struct {
		calls string // "": all
		parts [][]byte
	}{
		{"GetLocal", [][]byte{part(fuzzMessage, &replkvv1.GetResponse{Item: item})}}, {"GetLocal", [][]byte{part(fuzzMessage, &replkvv1.GetResponse{})}},
		{"Get GetMany", [][]byte{part(fuzzMessage, &replkvv1.GetManyResponse{Results: []*replkvv1.GetManyResult{{Item: item}, {}, {Error: marshal(conflict)}}})}},
		{"Scan", [][]byte{part(fuzzMessage, &replkvv1.ScanResponse{Items: []*replkvv1.Item{item, {}}}), part(fuzzMessage, &replkvv1.ScanResponse{}), {fuzzEnd}}},
		{"Watch", [][]byte{part(fuzzMessage, &replkvv1.WatchResponse{Revision: 1}), part(fuzzMessage, &replkvv1.WatchResponse{Revision: 2, Events: []*replkvv1.Event{put}, Continued: true}),
			part(fuzzMessage, &replkvv1.WatchResponse{Revision: 2, Events: []*replkvv1.Event{{Kind: replkvv1.Event_KIND_PREVIOUS, Prev: item}, {Kind: replkvv1.Event_KIND_DELETE, Item: item}}}), {fuzzEnd}}},
		{"Watch", [][]byte{part(fuzzMessage, &replkvv1.WatchResponse{Revision: 1}), part(fuzzMessage, &replkvv1.WatchResponse{Events: []*replkvv1.Event{{Kind: replkvv1.Event_KIND_PREVIOUS, Prev: item}}})}},
		{"Set Delete DeleteRange Grant Revoke Compact", [][]byte{write(&replkvv1.WriteResult{Revision: 3, Deleted: 1, Prev: []*replkvv1.Item{item}})}}, {"Set Txn", [][]byte{write(&replkvv1.WriteResult{Txn: txn})}},
		{"Set Txn Grant", [][]byte{write(&replkvv1.WriteResult{Error: marshal(conflict)})}}, {"Delete Txn", [][]byte{write(nil), write(nil)}}, {"Set", [][]byte{part(fuzzMessage, &replkvv1.WriteResponse{})}},
		{"Update Revision", [][]byte{part(fuzzMessage, &replkvv1.RevisionResponse{Revision: 3}), part(fuzzMessage, &replkvv1.GetResponse{Item: item}), write(&replkvv1.WriteResult{Txn: &replkvv1.TxnResponse{Revision: 4}})}},
		{"KeepAliveOnce KeepAlive", [][]byte{part(fuzzMessage, &replkvv1.KeepAliveResponse{TtlMs: -1}), part(fuzzMessage, &replkvv1.KeepAliveResponse{TtlMs: 1 << 62})}},
		{"TimeToLive", [][]byte{part(fuzzMessage, lease)}}, {"Leases", [][]byte{part(fuzzMessage, &replkvv1.LeasesResponse{Leases: []*replkvv1.LeaseInfo{lease, nil}}), {fuzzEnd}}},
		{"Members Remove", [][]byte{part(fuzzMessage, &replkvv1.Membership{Index: 4, Members: []*replkvv1.Member{{Id: "a", Address: "a:1", Voter: true}, {}}})}},
		{"Backup", [][]byte{part(fuzzMessage, &replkvv1.BackupResponse{Data: []byte("data")}), part(fuzzMessage, &replkvv1.BackupResponse{}), {fuzzEnd}}},
		{"", [][]byte{part(fuzzStatus, conflict)}}, {"", [][]byte{{fuzzStatus, 8, byte(codes.Unavailable)}, {fuzzEnd}}}, {"Set", [][]byte{{fuzzStatus, 8, 99}}},
	} {
		for i, call := range fuzzCalls {
			if seed.calls == "" || slices.Contains(strings.Fields(seed.calls), call.name) {
				f.Add(uint8(i), true, bytes.Join(seed.parts, fuzzSeparator))
			}
		}
	}
	f.Add(uint8(5), false, part(fuzzMessage, &replkvv1.OpenSessionResponse{Session: []byte("short")}))
	f.Fuzz(func(t *testing.T, call uint8, session bool, in []byte) {
		if len(in) > 16<<10 {
			return // more of the same
		}
		synctest.Test(t, func(t *testing.T) {
			c := (&fuzzServer{parts: bytes.Split(in, fuzzSeparator), session: session}).client(t)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			call := fuzzCalls[int(call)%len(fuzzCalls)]
			err := call.do(ctx, c)
			if took := time.Since(began); took > 11*time.Second {
				t.Fatalf("it took %v", took)
			}
			if err == nil {
				return
			}
			if _, ok := errors.AsType[*kv.Error](err); !ok && ctx.Err() == nil || errors.Is(err, errBadAnswer) {
				t.Fatalf("%s: %T %v", call.name, err, err)
			}
			_ = err.Error()
		})
	})
}

// TestGetWithoutItem: an answer without an item is no item.
func TestGetWithoutItem(t *testing.T) {
	c := (&fuzzServer{parts: [][]byte{{fuzzMessage}}}).client(t)
	if it, err := c.Get(t.Context(), "k", kv.Local()); !errors.Is(err, kv.ErrCorrupt) || kv.OutcomeOf(err) != kv.OutcomeNotDone {
		t.Fatalf("%+v, %v", it, err)
	}
}
