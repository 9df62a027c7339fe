package service

import (
	"context"
	"errors"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// maxGetKeys bounds a GetMany.
const maxGetKeys = 4096

func (s *kvServer) GetMany(ctx context.Context, req *replkvv1.GetManyRequest) (*replkvv1.GetManyResponse, error) {
	if n := len(req.GetKeys()); n == 0 || n > maxGetKeys {
		return nil, notDone("GetMany", invalid("%d keys, a request has 1 to %d", n, maxGetKeys))
	}
	keys := make([]string, len(req.GetKeys()))
	for i, k := range req.GetKeys() {
		keys[i] = string(k)
	}
	out := &replkvv1.GetManyResponse{Results: make([]*replkvv1.GetManyResult, 0, len(keys))}
	size := 0
	err := s.b.ReadMany(ctx, keys, func(item kv.Item, err error) bool {
		r := getResult(&item, err)
		n := proto.Size(r) + 8 // and its framing
		if size += n; size > maxMessageBytes && len(out.Results) > 0 {
			return false
		}
		out.Results = append(out.Results, r)
		return true
	})
	if err != nil {
		return nil, notDone("GetMany", err)
	}
	return out, nil
}

func getResult(item *kv.Item, err error) *replkvv1.GetManyResult {
	switch {
	case err == nil:
		return &replkvv1.GetManyResult{Item: itemToProto(item)}
	case errors.Is(err, kv.ErrNotFound):
		return &replkvv1.GetManyResult{}
	}
	// Strings in it are clean, so that it can be encoded.
	raw, _ := proto.Marshal(status.Convert(notDone("Get", err)).Proto())
	return &replkvv1.GetManyResult{Error: raw}
}
