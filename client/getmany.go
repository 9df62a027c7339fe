package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// GetMany returns those of the keys that are there. See kv.KV.
func (c *Client) GetMany(ctx context.Context, keys ...string) (map[string]kv.Item, error) {
	for _, k := range keys {
		if err := checkSize(len(k)); err != nil {
			return nil, refused("GetMany", err)
		}
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	out := make(map[string]kv.Item, len(keys))
	for len(keys) > 0 {
		n, err := c.getSome(ctx, keys, out)
		if err != nil {
			return nil, err
		}
		keys = keys[n:]
	}
	return out, nil
}

// getSome reads as many of the keys as one RPC answers, and returns their number.
func (c *Client) getSome(ctx context.Context, keys []string, out map[string]kv.Item) (int, error) {
	req, size := &replkvv1.GetManyRequest{}, 0
	for _, k := range keys[:min(len(keys), maxGets)] {
		if size += len(k) + 8; size > maxRequestBytes && len(req.Keys) > 0 {
			break
		}
		req.Keys = append(req.Keys, []byte(k))
	}
	var res *replkvv1.GetManyResponse
	err := c.do(ctx, "GetMany", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = s.GetMany(ctx, req, opts...)
		return err
	})
	if err != nil {
		return 0, err
	}
	n := len(res.GetResults())
	if n == 0 || n > len(req.Keys) {
		return 0, &kv.Error{Op: "GetMany", Outcome: kv.OutcomeNotDone, Err: fmt.Errorf("%w: %d results for %d keys", kv.ErrCorrupt, n, len(req.Keys))}
	}
	for i, r := range res.GetResults() {
		switch {
		case len(r.GetError()) > 0:
			e := restore(r.GetError())
			e.Op = "GetMany"
			return 0, e
		case r.GetItem() != nil:
			out[keys[i]] = itemFromProto(r.GetItem(), false)
		}
	}
	return n, nil
}
