package client

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// Scan yields the items of r in key order, as of one revision. Each loop over
// the returned sequence opens a stream of its own, which the loop's end frees.
// Until the first item came another endpoint may take over; an error after it
// is final, since only the server knows the revision. See kv.KV.
func (c *Client) Scan(ctx context.Context, r kv.Range, opts ...kv.ScanOption) iter.Seq2[kv.Item, error] {
	var o kv.ScanOptions
	for _, opt := range opts {
		opt.ApplyScan(&o)
	}
	return func(yield func(kv.Item, error) bool) {
		rng, err := rangeToProto(r)
		if err != nil {
			yield(kv.Item{}, refused("Scan", err))
			return
		}
		s := newStream[replkvv1.ScanResponse](ctx, c, "Scan")
		defer s.close()
		req := &replkvv1.ScanRequest{Range: rng, Read: readToProto(&o.ReadOptions), Limit: int64(o.Limit), Reverse: o.Reverse, KeysOnly: o.KeysOnly}
		err = s.open(func(ctx context.Context, rpc services, opts ...grpc.CallOption) (grpc.ServerStreamingClient[replkvv1.ScanResponse], error) {
			return rpc.Scan(ctx, req, opts...)
		})
		for ; err == nil && s.msg != nil; err = s.next() {
			for _, it := range s.msg.GetItems() {
				if !yield(itemFromProto(it, o.KeysOnly), nil) {
					return
				}
			}
		}
		if err != nil {
			yield(kv.Item{}, err)
		}
	}
}
