package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

const (
	unknown = replkvv1.Outcome_OUTCOME_UNKNOWN
	refused = replkvv1.Outcome_OUTCOME_NOT_DONE
	done    = replkvv1.Outcome_OUTCOME_DONE
)

func TestRegisterTwiceIsAnErrorAndAddsNothing(t *testing.T) {
	srv := grpc.NewServer()
	replkvv1.RegisterTextKVServer(srv, replkvv1.UnimplementedTextKVServer{})
	if err := Register(srv, kvtest.NewFake()); !errors.Is(err, kv.ErrAlreadyRegistered) {
		t.Errorf("got %v", err)
	}
	if n := len(srv.GetServiceInfo()); n != 1 {
		t.Errorf("%d services are registered", n)
	}
	srv = grpc.NewServer()
	for _, want := range []error{nil, kv.ErrAlreadyRegistered} {
		if err := Register(srv, kvtest.NewFake()); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for _, name := range Names() {
		if _, ok := srv.GetServiceInfo()[name]; !ok {
			t.Errorf("%s is not there", name)
		}
	}
	if err := Register(nil, nil); !errors.Is(err, kv.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

// What a client of this module never sends.
func TestSenselessRequestsAreRefused(t *testing.T) {
	f := kvtest.NewFake()
	conn := serve(t, f)
	c, text, ctx := replkvv1.NewKVClient(conn), replkvv1.NewTextKVClient(conn), t.Context()
	k := []byte("k")
	get := func(r *replkvv1.GetRequest) error { _, err := c.Get(ctx, r); return err }
	set := func(r *replkvv1.SetRequest) error { _, err := c.Set(ctx, r); return err }
	del := func(r *replkvv1.DeleteRequest) error { _, err := c.Delete(ctx, r); return err }
	delRange := func(r *replkvv1.Range) error {
		_, err := c.DeleteRange(ctx, &replkvv1.DeleteRangeRequest{Range: r})
		return err
	}
	scan := func(r *replkvv1.ScanRequest) error {
		stream, err := c.Scan(ctx, r)
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	all := &replkvv1.Range{Open: true}
	for name, err := range map[string]error{
		"get, no key":            get(&replkvv1.GetRequest{}),
		"get, at least -1":       get(&replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{AtLeast: -1}}),
		"get, revision -1":       get(&replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{Revision: -1}}),
		"get, staleness -1":      get(&replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{MaxStalenessMs: -1}}),
		"get, local staleness":   get(&replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{Local: true, MaxStalenessMs: 1}}),
		"get, local at least":    get(&replkvv1.GetRequest{Key: k, Read: &replkvv1.ReadOptions{Local: true, AtLeast: 1}}),
		"set, no key":            set(&replkvv1.SetRequest{}),
		"set, if revision -1":    set(&replkvv1.SetRequest{Key: k, Condition: &replkvv1.Condition{IfRevision: -1}}),
		"delete, no key":         del(&replkvv1.DeleteRequest{}),
		"delete, if revision -1": del(&replkvv1.DeleteRequest{Key: k, Condition: &replkvv1.Condition{IfRevision: -1}}),
		"delete range, none":     delRange(nil),
		"delete range, inverted": delRange(&replkvv1.Range{From: []byte("b"), To: []byte("a")}),
		"delete range, open, to": delRange(&replkvv1.Range{To: []byte("a"), Open: true}),
		"scan, no range":         scan(&replkvv1.ScanRequest{}),
		"scan, inverted":         scan(&replkvv1.ScanRequest{Range: &replkvv1.Range{From: []byte("b"), To: []byte("a")}}),
		"scan, limit -1":         scan(&replkvv1.ScanRequest{Range: all, Limit: -1}),
		"scan, revision -1":      scan(&replkvv1.ScanRequest{Range: all, Read: &replkvv1.ReadOptions{Revision: -1}}),
		"text get, no key":       func() error { _, err := text.Get(ctx, &replkvv1.TextGetRequest{}); return err }(),
		"text set, no key":       func() error { _, err := text.Set(ctx, &replkvv1.TextSetRequest{}); return err }(),
		"text delete, no key":    func() error { _, err := text.Delete(ctx, &replkvv1.TextDeleteRequest{}); return err }(),
	} {
		t.Run(name, func(t *testing.T) { wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", refused) })
	}
	for _, op := range []string{"Get", "Set", "Delete", "DeleteRange", "Scan"} {
		if n := f.Calls(op); n > 0 {
			t.Errorf("%d senseless calls of %s came through", n, op)
		}
	}
}

func TestGarbageInsteadOfAMessage(t *testing.T) {
	conn := serve(t, kvtest.NewFake())
	for _, method := range []string{"KV/Get", "KV/Set", "KV/Delete", "KV/DeleteRange", "KV/Revision", "KV/OpenSession", "KV/Write", "Cluster/Status", "Cluster/AddVoter", "TextKV/Set"} {
		err := conn.Invoke(t.Context(), "/replkv.v1."+method, rawMessage{0xff, 0xff, 0xff}, &replkvv1.GetResponse{}, grpc.ForceCodec(rawCodec{}))
		if err == nil {
			t.Errorf("%s took garbage", method)
		}
	}
	if _, err := replkvv1.NewKVClient(conn).Revision(t.Context(), &replkvv1.RevisionRequest{}); err != nil {
		t.Errorf("the server does not serve any more: %v", err)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

type rawMessage []byte

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return v.(rawMessage), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }

func TestErrorsOfTheBackend(t *testing.T) {
	f := kvtest.NewFake()
	var fail error
	f.Before = func(context.Context, string) error { return fail }
	conn := serve(t, f)
	c, ctx := replkvv1.NewKVClient(conn), t.Context()
	get := func() error { _, err := c.Get(ctx, &replkvv1.GetRequest{Key: []byte("k")}); return err }
	set := func() error { _, err := c.Set(ctx, &replkvv1.SetRequest{Key: []byte("k")}); return err }

	fail = &kv.Error{Op: "Set", Outcome: kv.OutcomeNotDone, LeaderID: "n2", LeaderAddr: "h:2", Err: kv.ErrNoLeader}
	wantStatus(t, set(), codes.Unavailable, "NO_LEADER", refused)
	fail = &kv.Error{Op: "Set", Err: fmt.Errorf("cut: %w", context.DeadlineExceeded)}
	wantStatus(t, set(), codes.DeadlineExceeded, "DEADLINE_EXCEEDED", unknown)
	fail = &kv.Error{Op: "Set", Outcome: kv.OutcomeDone, Err: kv.ErrResultDropped}
	wantStatus(t, set(), codes.Unknown, "RESULT_DROPPED", done)
	fail = &kv.Error{Op: "Get", Outcome: kv.OutcomeNotDone, Err: &kv.CompactedError{Revision: 1, Compacted: 2}}
	wantStatus(t, get(), codes.OutOfRange, "COMPACTED", refused)
	fail = nil
	wantStatus(t, get(), codes.NotFound, "NOT_FOUND", refused)
}

func TestUnclassifiedErrorsOfTheBackend(t *testing.T) {
	plain := &plainBackend{Fake: kvtest.NewFake()}
	s := &kvServer{b: plain}
	_, err := s.Set(t.Context(), &replkvv1.SetRequest{Key: []byte("k")})
	wantStatus(t, err, codes.ResourceExhausted, "OVERLOADED", unknown)
	_, err = s.Get(t.Context(), &replkvv1.GetRequest{Key: []byte("k")})
	wantStatus(t, err, codes.ResourceExhausted, "OVERLOADED", refused)
}

// plainBackend returns errors without an outcome.
type plainBackend struct{ *kvtest.Fake }

func (plainBackend) Get(context.Context, string, ...kv.GetOption) (kv.Item, error) {
	return kv.Item{}, kv.ErrOverloaded
}

func (plainBackend) Set(context.Context, string, []byte, ...kv.SetOption) (kv.Revision, error) {
	return 0, kv.ErrOverloaded
}

func TestAfterClose(t *testing.T) {
	f := kvtest.NewFake()
	conn := serve(t, f)
	f.Close()
	c, text, ctx := replkvv1.NewKVClient(conn), replkvv1.NewTextKVClient(conn), t.Context()
	_, err1 := c.Get(ctx, &replkvv1.GetRequest{Key: []byte("k")})
	_, err2 := c.Set(ctx, &replkvv1.SetRequest{Key: []byte("k")})
	_, err3 := text.Delete(ctx, &replkvv1.TextDeleteRequest{Key: "k"})
	_, err4 := replkvv1.NewClusterClient(conn).Status(ctx, &replkvv1.StatusRequest{})
	_, err5 := replkvv1.NewClusterClient(conn).Remove(ctx, &replkvv1.RemoveRequest{Id: "b"})
	stream, err := c.Scan(ctx, &replkvv1.ScanRequest{Range: &replkvv1.Range{Open: true}})
	if err != nil {
		t.Fatal(err)
	}
	_, err6 := stream.Recv()
	for _, err := range []error{err1, err2, err3, err4, err5, err6} {
		wantStatus(t, err, codes.Unavailable, "CLOSED", refused)
	}
}

func TestStatus(t *testing.T) {
	c := replkvv1.NewClusterClient(serve(t, kvtest.NewFake()))
	st, err := c.Status(t.Context(), &replkvv1.StatusRequest{})
	if err != nil || st.GetId() != "fake" || !st.GetReady() || st.GetRevision() != 1 || !slices.ContainsFunc(st.GetMembers(),
		func(m *replkvv1.Member) bool { return m.GetId() == "fake" && m.GetVoter() }) {
		t.Errorf("got %v, %v", st, err)
	}
}

// What was deleted but does not fit a message is done, and says so.
func TestADeletionTooLargeToReturn(t *testing.T) {
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	for i := range 3 {
		if _, err := f.Set(t.Context(), fmt.Sprint(i), make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.DeleteRange(t.Context(), &replkvv1.DeleteRangeRequest{Range: &replkvv1.Range{Open: true}, ReturnPrev: true})
	wantStatus(t, err, codes.Unknown, "RESULT_DROPPED", done)
	if rev, err := f.Revision(t.Context()); err != nil || rev != 5 {
		t.Errorf("got %d, %v", rev, err)
	}
}
