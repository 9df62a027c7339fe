package client

import (
	"context"
	"fmt"
	"iter"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/kv"
)

// Txn does a transaction. It is done once, however often it had to be sent. See
// kv.KV.
func (c *Client) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	if err := t.Validate(); err != nil {
		return kv.TxnResult{}, refused("Txn", err)
	}
	res, err := c.write(ctx, "Txn", &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Txn{Txn: txnToProto(&t)}})
	if err != nil { // if the rest was dropped, the branch is known
		return kv.TxnResult{Succeeded: res.GetTxn().GetSucceeded(), Revision: kv.Revision(res.GetTxn().GetRevision())}, err
	}
	if res.GetTxn() == nil {
		return kv.TxnResult{}, &kv.Error{Op: "Txn", Outcome: kv.OutcomeDone, Err: fmt.Errorf("%w: a transaction without an answer", kv.ErrCorrupt)}
	}
	return txnFromProto(res.GetTxn(), &t), nil
}

// txnToProto copies values: batches are encoded later.
func txnToProto(t *kv.Txn) *replkvv1.TxnRequest {
	out := &replkvv1.TxnRequest{Then: branchToProto(t.Then), Otherwise: branchToProto(t.Else)}
	for i := range t.If {
		c := &t.If[i]
		out.If = append(out.If, &replkvv1.Compare{Range: validRange(c.Range), Target: replkvv1.Compare_Target(c.Target),
			Is: replkvv1.Compare_Relation(c.Is), Value: append([]byte(nil), c.Value...), Number: c.Number})
	}
	return out
}

// validRange is rangeToProto of a range that Validate has seen.
func validRange(r kv.Range) *replkvv1.Range {
	from, to, open := r.Bounds()
	if open {
		to = ""
	}
	return &replkvv1.Range{From: []byte(from), To: []byte(to), Open: open}
}

func branchToProto(ops []kv.Op) (out []*replkvv1.Operation) {
	for i := range ops {
		op, m := &ops[i], &replkvv1.Operation{}
		switch op.Kind {
		case kv.OpSet:
			key, _, _ := op.Range.Bounds()
			m.Operation = &replkvv1.Operation_Put{Put: &replkvv1.PutOperation{Key: []byte(key), Value: append([]byte(nil), op.Value...),
				Lease: int64(op.Lease), ReturnPrev: op.ReturnPrev}}
		case kv.OpGet:
			m.Operation = &replkvv1.Operation_Get{Get: &replkvv1.GetOperation{Range: validRange(op.Range), Limit: int64(op.Limit),
				Reverse: op.Reverse, KeysOnly: op.KeysOnly, CountOnly: op.CountOnly}}
		case kv.OpDelete:
			m.Operation = &replkvv1.Operation_Delete{Delete: &replkvv1.DeleteOperation{Range: validRange(op.Range), ReturnPrev: op.ReturnPrev}}
		case kv.OpTxn:
			m.Operation = &replkvv1.Operation_Txn{Txn: txnToProto(op.Txn)}
		}
		out = append(out, m)
	}
	return out
}

// txnFromProto takes the items' memory over. The transaction tells which of them
// came without values.
func txnFromProto(m *replkvv1.TxnResponse, t *kv.Txn) kv.TxnResult {
	out := kv.TxnResult{Succeeded: m.GetSucceeded(), Revision: kv.Revision(m.GetRevision())}
	ops := t.Then
	if !out.Succeeded {
		ops = t.Else
	}
	for i, r := range m.GetResults() {
		res := kv.OpResult{More: r.GetMore(), Count: r.GetCount()}
		for _, it := range r.GetItems() {
			res.Items = append(res.Items, itemFromProto(it, i < len(ops) && ops[i].KeysOnly))
		}
		if r.GetTxn() != nil && i < len(ops) && ops[i].Txn != nil {
			inner := txnFromProto(r.GetTxn(), ops[i].Txn)
			res.Txn = &inner
		}
		out.Results = append(out.Results, res)
	}
	return out
}

// View runs fn on the store as it is at one revision. A compaction past it ends
// the reads with kv.ErrCompacted. See kv.KV.
func (c *Client) View(ctx context.Context, fn func(*kv.ReadTx) error, opts ...kv.ReadOption) error {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	return optimistic.View(ctx, viewer{c, &o}, 0, fn)
}

// Update runs fn, and commits what it has written if nothing that it has read has
// changed; else fn runs again. See kv.KV.
func (c *Client) Update(ctx context.Context, fn func(*kv.Tx) error) (kv.Revision, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	return optimistic.Update(ctx, viewer{c, &kv.ReadOptions{}}, &c.queues, kv.TxLimits{Bytes: maxRequestBytes, Size: maxTxnSize}, fn, func() {})
}

// maxTxnSize is the most that members let a transaction have.
const maxTxnSize = 100_000

// viewer reads at a revision.
type viewer struct {
	c *Client
	o *kv.ReadOptions
}

func (v viewer) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) { return v.c.Txn(ctx, t) }

// Begin asks for the newest revision, which is that of a linearizable read: reads at
// it may then go to any member.
func (v viewer) Begin(ctx context.Context, after kv.Revision) (kv.Snapshot, func(), error) {
	var rev kv.Revision
	var err error
	switch {
	case *v.o != (kv.ReadOptions{}):
		err = refused("View", fmt.Errorf("%w: a client's View is linearizable: it takes no option", kv.ErrInvalidArgument))
	case after > 0:
		rev = after
	default:
		rev, err = v.c.Revision(ctx)
	}
	return &snapshot{v.c, rev}, func() {}, err
}

type snapshot struct {
	c   *Client
	rev kv.Revision
}

func (s *snapshot) Revision() kv.Revision { return s.rev }

// Get reads on a member that has the revision: AtLeast waits for it.
func (s *snapshot) Get(ctx context.Context, key string) (kv.Item, error) {
	return s.c.Get(ctx, key, kv.AtLeast(s.rev), kv.AtRevision(s.rev))
}

func (s *snapshot) Scan(ctx context.Context, r kv.Range, o kv.ScanOptions) iter.Seq2[kv.Item, error] {
	opts := []kv.ScanOption{kv.AtLeast(s.rev), kv.AtRevision(s.rev), kv.Limit(o.Limit)}
	if o.Reverse {
		opts = append(opts, kv.Reverse())
	}
	if o.KeysOnly {
		opts = append(opts, kv.KeysOnly())
	}
	return s.c.Scan(ctx, r, opts...)
}
