package client

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// maxRequestBytes bounds key and value of a request: gRPC's default limit of a
// received message, minus a margin. Beyond it the server's gRPC would refuse,
// without saying that nothing was done.
const maxRequestBytes = 4<<20 - 64<<10

// refused is the error of a call that was not sent.
func refused(op string, err error) error {
	return &kv.Error{Op: op, Outcome: kv.OutcomeNotDone, Err: err}
}

func checkSize(n int) error {
	if n > maxRequestBytes {
		return fmt.Errorf("%w: %d bytes, a message holds %d", kv.ErrTooLarge, n, maxRequestBytes)
	}
	return nil
}

// Get returns the item of key, or kv.ErrNotFound. See kv.KV.
func (c *Client) Get(ctx context.Context, key string, opts ...kv.GetOption) (kv.Item, error) {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	if err := checkSize(len(key)); err != nil {
		return kv.Item{}, refused("Get", err)
	}
	if sharable(ctx, &o) {
		return c.reads.get(ctx, key)
	}
	req := &replkvv1.GetRequest{Key: []byte(key), Read: readToProto(&o)}
	var res *replkvv1.GetResponse
	err := c.do(ctx, "Get", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = s.Get(ctx, req, opts...)
		return err
	})
	if err != nil {
		return kv.Item{}, err
	}
	if res.GetItem() == nil {
		return kv.Item{}, &kv.Error{Op: "Get", Outcome: kv.OutcomeNotDone, Err: fmt.Errorf("%w: an answer without an item", kv.ErrCorrupt)}
	}
	return itemFromProto(res.GetItem(), false), nil
}

// Set stores value under key and returns the revision it was written at. It is
// done once, however often it had to be sent. See kv.KV.
func (c *Client) Set(ctx context.Context, key string, value []byte, opts ...kv.SetOption) (kv.Revision, error) {
	var o kv.SetOptions
	for _, opt := range opts {
		opt.ApplySet(&o)
	}
	if err := checkSize(len(key) + len(value)); err != nil {
		return 0, refused("Set", err)
	}
	res, err := c.write(ctx, "Set", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{
		Key: []byte(key), Value: slices.Clone(value), Condition: conditionToProto(o.Conditional, o.IfRevision), Lease: int64(o.Lease)}}})
	return kv.Revision(res.GetRevision()), err
}

// Delete removes key. See kv.KV.
func (c *Client) Delete(ctx context.Context, key string, opts ...kv.DeleteOption) (kv.DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	if err := checkSize(len(key)); err != nil {
		return kv.DeleteResult{}, refused("Delete", err)
	}
	res, err := c.write(ctx, "Delete", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Delete{Delete: &replkvv1.DeleteRequest{
		Key: []byte(key), ReturnPrev: o.ReturnPrev, Condition: conditionToProto(o.Conditional, o.IfRevision)}}})
	return deleteResult(res), err
}

// DeleteRange removes all keys of r at one revision. With ReturnPrev, items of
// more than 4 MiB together are deleted but not returned: kv.ErrResultDropped,
// with outcome done. See kv.KV.
func (c *Client) DeleteRange(ctx context.Context, r kv.Range, opts ...kv.DeleteOption) (kv.DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	rng, err := rangeToProto(r)
	if err == nil && o.Conditional {
		err = fmt.Errorf("%w: DeleteRange takes no condition", kv.ErrInvalidArgument)
	}
	if err != nil {
		return kv.DeleteResult{}, refused("DeleteRange", err)
	}
	res, err := c.write(ctx, "DeleteRange", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_DeleteRange{
		DeleteRange: &replkvv1.DeleteRangeRequest{Range: rng, ReturnPrev: o.ReturnPrev}}})
	return deleteResult(res), err
}

// Revision returns the store's current revision, linearizably.
func (c *Client) Revision(ctx context.Context) (kv.Revision, error) {
	var res *replkvv1.RevisionResponse
	err := c.do(ctx, "Revision", reads, func(ctx context.Context, s services, opts ...grpc.CallOption) (err error) {
		res, err = s.Revision(ctx, &replkvv1.RevisionRequest{}, opts...)
		return err
	})
	return kv.Revision(res.GetRevision()), err
}

// Compact gives up the history below revision rev: reads of earlier revisions fail
// with kv.ErrCompacted from then on. It is done once, as a Set is. kv.ErrCompacted if
// that was given up already, kv.ErrFutureRevision if rev has not come yet.
func (c *Client) Compact(ctx context.Context, rev kv.Revision) error {
	if rev < 1 {
		return refused("Compact", fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, rev))
	}
	_, err := c.write(ctx, "Compact", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Compact{
		Compact: &replkvv1.CompactRequest{Revision: int64(rev)}}})
	return err
}
