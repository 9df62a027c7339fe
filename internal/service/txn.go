package service

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

func (s *kvServer) Txn(ctx context.Context, req *replkvv1.TxnRequest) (*replkvv1.TxnResponse, error) {
	t, err := txnOf(req)
	if err != nil {
		return nil, notDone("Txn", err)
	}
	res, err := s.b.Txn(ctx, t)
	if err != nil {
		return nil, writeError("Txn", err)
	}
	out := txnToProto(&res)
	if n := proto.Size(out); n > maxMessageBytes {
		return nil, writeError("Txn", txnDropped(&res, n))
	}
	return out, nil
}

// txnDropped: it was done, but the answer does not fit a message.
func txnDropped(res *kv.TxnResult, n int) error {
	return &kv.Error{Op: "Txn", Outcome: kv.OutcomeDone,
		Err: fmt.Errorf("%w: a transaction at revision %d, %d bytes do not fit a message", kv.ErrResultDropped, res.Revision, n)}
}

// txnOf checks what the backend could not tell any more, and Validate the rest.
func txnOf(req *replkvv1.TxnRequest) (kv.Txn, error) {
	t, err := txn(req, 1)
	if err != nil {
		return kv.Txn{}, err
	}
	return t, t.Validate()
}

func txn(req *replkvv1.TxnRequest, depth int) (t kv.Txn, err error) {
	if depth > kv.MaxTxnDepth {
		return t, invalid("transactions nested deeper than %d", kv.MaxTxnDepth)
	}
	for i, m := range req.GetIf() {
		r, err := keyRange(m.GetRange())
		if err != nil {
			return t, fmt.Errorf("comparison %d: %w", i, err)
		}
		t.If = append(t.If, kv.Compare{Range: r, Target: kv.Target(m.GetTarget()), Is: kv.Relation(m.GetIs()), Value: m.GetValue(), Number: m.GetNumber()})
	}
	if t.Then, err = branch(req.GetThen(), depth); err != nil {
		return t, err
	}
	t.Else, err = branch(req.GetOtherwise(), depth)
	return t, err
}

func branch(ops []*replkvv1.Operation, depth int) (out []kv.Op, err error) {
	for i, m := range ops {
		op, err := operation(m, depth)
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		out = append(out, op)
	}
	return out, nil
}

func operation(m *replkvv1.Operation, depth int) (op kv.Op, err error) {
	switch o := m.GetOperation().(type) {
	case *replkvv1.Operation_Put:
		op = kv.SetOp(string(o.Put.GetKey()), o.Put.GetValue())
		op.Lease, op.ReturnPrev = kv.LeaseID(o.Put.GetLease()), o.Put.GetReturnPrev()
	case *replkvv1.Operation_Get:
		if n := o.Get.GetLimit(); n < 0 || n > math.MaxInt32 {
			return op, invalid("limit %d", n)
		}
		op.Kind, op.Limit, op.Reverse = kv.OpGet, int(o.Get.GetLimit()), o.Get.GetReverse()
		op.KeysOnly, op.CountOnly = o.Get.GetKeysOnly(), o.Get.GetCountOnly()
		op.Range, err = keyRange(o.Get.GetRange())
	case *replkvv1.Operation_Delete:
		op.Kind, op.ReturnPrev = kv.OpDelete, o.Delete.GetReturnPrev()
		op.Range, err = keyRange(o.Delete.GetRange())
	case *replkvv1.Operation_Txn:
		var inner kv.Txn
		inner, err = txn(o.Txn, depth+1)
		op = kv.TxnOp(inner)
	default:
		err = invalid("no operation")
	}
	return op, err
}

func txnToProto(res *kv.TxnResult) *replkvv1.TxnResponse {
	out := &replkvv1.TxnResponse{Succeeded: res.Succeeded, Revision: int64(res.Revision)}
	for i := range res.Results {
		r := &res.Results[i]
		m := &replkvv1.OperationResult{More: r.More, Count: r.Count}
		for j := range r.Items {
			m.Items = append(m.Items, itemToProto(&r.Items[j]))
		}
		if r.Txn != nil {
			m.Txn = txnToProto(r.Txn)
		}
		out.Results = append(out.Results, m)
	}
	return out
}
