package service

import (
	"context"

	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/kv"
)

// kvServer serves replkv.v1.KV; scan.go has its Scan.
type kvServer struct {
	replkvv1.UnimplementedKVServer
	b Backend
}

func (s *kvServer) Get(ctx context.Context, req *replkvv1.GetRequest) (*replkvv1.GetResponse, error) {
	k, err := key(req.GetKey())
	if err != nil {
		return nil, notDone("Get", err)
	}
	opts, err := getOptions(req.GetRead())
	if err != nil {
		return nil, notDone("Get", err)
	}
	item, err := s.b.Get(ctx, k, opts...)
	if err != nil {
		return nil, notDone("Get", err)
	}
	return &replkvv1.GetResponse{Item: itemToProto(&item)}, nil
}

func (s *kvServer) Set(ctx context.Context, req *replkvv1.SetRequest) (*replkvv1.SetResponse, error) {
	k, err := key(req.GetKey())
	if err != nil {
		return nil, notDone("Set", err)
	}
	cond, err := condition(req.GetCondition())
	if err != nil {
		return nil, notDone("Set", err)
	}
	var opts []kv.SetOption
	if cond != nil {
		opts = append(opts, cond)
	}
	lease, err := grantID(req.GetLease())
	if err != nil {
		return nil, notDone("Set", err)
	}
	if lease != 0 {
		opts = append(opts, kv.WithLease(lease))
	}
	rev, err := s.b.Set(ctx, k, req.GetValue(), opts...)
	if err != nil {
		return nil, writeError("Set", err)
	}
	return &replkvv1.SetResponse{Revision: int64(rev)}, nil
}

func (s *kvServer) Delete(ctx context.Context, req *replkvv1.DeleteRequest) (*replkvv1.DeleteResponse, error) {
	k, err := key(req.GetKey())
	if err != nil {
		return nil, notDone("Delete", err)
	}
	opts, err := deleteOptions(req.GetCondition(), req.GetReturnPrev())
	if err != nil {
		return nil, notDone("Delete", err)
	}
	res, err := s.b.Delete(ctx, k, opts...)
	if err != nil {
		return nil, writeError("Delete", err)
	}
	return deleteResponse("Delete", &res)
}

func (s *kvServer) DeleteRange(ctx context.Context, req *replkvv1.DeleteRangeRequest) (*replkvv1.DeleteResponse, error) {
	r, err := keyRange(req.GetRange())
	if err != nil {
		return nil, notDone("DeleteRange", err)
	}
	opts, err := deleteOptions(nil, req.GetReturnPrev())
	if err != nil {
		return nil, notDone("DeleteRange", err)
	}
	res, err := s.b.DeleteRange(ctx, r, opts...)
	if err != nil {
		return nil, writeError("DeleteRange", err)
	}
	return deleteResponse("DeleteRange", &res)
}

func (s *kvServer) Revision(ctx context.Context, _ *replkvv1.RevisionRequest) (*replkvv1.RevisionResponse, error) {
	rev, err := s.b.Revision(ctx)
	if err != nil {
		return nil, notDone("Revision", err)
	}
	return &replkvv1.RevisionResponse{Revision: int64(rev)}, nil
}

func (s *kvServer) Compact(ctx context.Context, req *replkvv1.CompactRequest) (*replkvv1.CompactResponse, error) {
	if err := compactRevision(req.GetRevision()); err != nil {
		return nil, notDone("Compact", err)
	}
	if err := s.b.Compact(ctx, kv.Revision(req.GetRevision())); err != nil {
		return nil, writeError("Compact", err)
	}
	return &replkvv1.CompactResponse{}, nil
}

// deleteResponse is the answer to a delete that was done. One that a client
// could not receive is an error of outcome done: gRPC's own would leave the
// client in doubt.
func deleteResponse(op string, res *kv.DeleteResult) (*replkvv1.DeleteResponse, error) {
	out := &replkvv1.DeleteResponse{Deleted: res.Deleted, Revision: int64(res.Revision)}
	for i := range res.Prev {
		out.Prev = append(out.Prev, itemToProto(&res.Prev[i]))
	}
	if n := proto.Size(out); n > maxMessageBytes {
		return nil, writeError(op, dropped(op, &batch.Result{DeleteResult: *res}, n))
	}
	return out, nil
}

func itemToProto(it *kv.Item) *replkvv1.Item {
	return &replkvv1.Item{
		Key:            []byte(it.Key),
		Value:          it.Value,
		CreateRevision: int64(it.CreateRevision),
		ModRevision:    int64(it.ModRevision),
		Version:        it.Version,
		Lease:          int64(it.Lease),
	}
}
