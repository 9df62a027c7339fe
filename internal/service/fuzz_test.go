package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

// fuzzStream is a stream with one request, and a client that leaves after some answers.
type fuzzStream struct {
	ctx  context.Context
	in   []byte
	left int
}

var errNoMessage = errors.New("not a message")

func (s *fuzzStream) SetHeader(metadata.MD) error  { return nil }
func (s *fuzzStream) SendHeader(metadata.MD) error { return nil }
func (s *fuzzStream) SetTrailer(metadata.MD)       {}
func (s *fuzzStream) Context() context.Context     { return s.ctx }

func (s *fuzzStream) SendMsg(m any) error {
	if _, err := proto.Marshal(m.(proto.Message)); err != nil {
		return err
	}
	if s.left--; s.left < 0 {
		return status.Error(codes.Canceled, "the client has left")
	}
	return nil
}

func (s *fuzzStream) RecvMsg(m any) error {
	if err := proto.Unmarshal(s.in, m.(proto.Message)); err != nil {
		return errNoMessage
	}
	return nil
}

// fuzzMethods are all that a client can call.
func fuzzMethods(b Backend) (calls []func(ctx context.Context, in []byte) error) {
	add := func(impl any, d *grpc.ServiceDesc) {
		for _, m := range d.Methods {
			calls = append(calls, func(ctx context.Context, in []byte) error {
				out, err := m.Handler(impl, ctx, func(v any) error { return (&fuzzStream{in: in}).RecvMsg(v) }, nil)
				if err != nil {
					return err
				}
				_, err = proto.Marshal(out.(proto.Message))
				return err
			})
		}
		for _, m := range d.Streams {
			calls = append(calls, func(ctx context.Context, in []byte) error {
				return m.Handler(impl, &fuzzStream{ctx: ctx, in: in, left: 10})
			})
		}
	}
	add(&kvServer{b: b}, &replkvv1.KV_ServiceDesc)
	add(&leaseServer{b: b}, &replkvv1.Lease_ServiceDesc)
	add(&clusterServer{b: b}, &replkvv1.Cluster_ServiceDesc)
	add(&textServer{b: b}, &replkvv1.TextKV_ServiceDesc)
	return calls
}

// FuzzRequest: whatever a client sends, of whatever method, is answered, or refused with
// an error that says which operation it was and what has become of it.
func FuzzRequest(f *testing.F) {
	k := []byte("k")
	every := &replkvv1.Range{Open: true}
	set := &replkvv1.SetRequest{Key: k, Value: []byte("v"), Condition: &replkvv1.Condition{IfRevision: 2}}
	var seeds [][]byte
	for _, m := range []proto.Message{
		set, &replkvv1.GetRequest{Key: k}, &replkvv1.GetManyRequest{Keys: [][]byte{k, nil}}, &replkvv1.DeleteRangeRequest{Range: every, ReturnPrev: true},
		&replkvv1.ScanRequest{Range: every, Limit: 3, Reverse: true}, &replkvv1.WatchRequest{Range: every, AfterRevision: proto.Int64(1), WithPrevious: true, ProgressMs: 1000},
		&replkvv1.WriteRequest{Session: []byte("0123456789abcdef"), Seq: 1, Operations: []*replkvv1.WriteOperation{setOp("k", nil), {}}},
		&replkvv1.TxnRequest{}, &replkvv1.GrantRequest{Id: 7, TtlMs: 5000}, &replkvv1.CompactRequest{Revision: 2},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, b)
	}
	for method := range fuzzMethods(kvtest.NewFake()) {
		for _, b := range seeds {
			f.Add(uint8(method), b)
		}
	}
	f.Fuzz(func(t *testing.T, method uint8, in []byte) {
		synctest.Test(t, func(t *testing.T) { // watches and keep-alives wait
			b := kvtest.NewFake()
			if _, err := b.Set(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Grant(t.Context(), time.Minute, kv.WithLeaseID(7)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			calls := fuzzMethods(b)
			err := calls[int(method)%len(calls)](ctx, in)
			if err == nil || errors.Is(err, errNoMessage) || ctx.Err() != nil || status.Code(err) == codes.Canceled {
				return
			}
			for _, d := range status.Convert(err).Details() {
				if d, ok := d.(*replkvv1.ErrorDetail); ok && d.GetOp() != "" && d.GetReason() != "" && d.GetOutcome() != replkvv1.Outcome_OUTCOME_DONE {
					return
				}
			}
			t.Fatalf("method %d, %x: %v", int(method)%len(calls), in, err)
		})
	})
}
