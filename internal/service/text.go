package service

import (
	"context"
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// textServer serves replkv.v1.TextKV. That keys and values of requests are
// UTF-8 is checked by protobuf.
type textServer struct {
	replkvv1.UnimplementedTextKVServer
	b Backend
}

func (s *textServer) Set(ctx context.Context, req *replkvv1.TextSetRequest) (*replkvv1.TextSetResponse, error) {
	k, err := key([]byte(req.GetKey()))
	if err != nil {
		return nil, notDone("Set", err)
	}
	if _, err := s.b.Set(ctx, k, []byte(req.GetValue())); err != nil {
		return nil, writeError("Set", err)
	}
	return &replkvv1.TextSetResponse{Success: true}, nil
}

func (s *textServer) Get(ctx context.Context, req *replkvv1.TextGetRequest) (*replkvv1.TextGetResponse, error) {
	k, err := key([]byte(req.GetKey()))
	if err != nil {
		return nil, notDone("Get", err)
	}
	item, err := s.b.Get(ctx, k)
	if err != nil {
		return nil, notDone("Get", err)
	}
	if !utf8.Valid(item.Value) {
		return nil, notText(k)
	}
	return &replkvv1.TextGetResponse{Value: string(item.Value)}, nil
}

// Delete succeeds also when the key was absent.
func (s *textServer) Delete(ctx context.Context, req *replkvv1.TextDeleteRequest) (*replkvv1.TextDeleteResponse, error) {
	k, err := key([]byte(req.GetKey()))
	if err != nil {
		return nil, notDone("Delete", err)
	}
	if _, err := s.b.Delete(ctx, k); err != nil {
		return nil, writeError("Delete", err)
	}
	return &replkvv1.TextDeleteResponse{Success: true}, nil
}

// notText answers for a value that a proto3 string cannot hold: to send it as
// it is would fail in the codec, with an error that names no cure. No sentinel
// of package kv says this, so it carries an outcome only.
func notText(key string) error {
	s := status.New(codes.FailedPrecondition,
		fmt.Sprintf("the value of %.64q is not UTF-8 text: read it with replkv.v1.KV/Get", key))
	if d, err := s.WithDetails(&replkvv1.ErrorDetail{Op: "Get", Outcome: replkvv1.Outcome_OUTCOME_NOT_DONE}); err == nil {
		s = d
	}
	return s.Err()
}
