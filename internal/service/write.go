package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/kv"
)

func (s *kvServer) OpenSession(ctx context.Context, _ *replkvv1.OpenSessionRequest) (*replkvv1.OpenSessionResponse, error) {
	id, err := s.b.OpenSession(ctx)
	if err != nil {
		return nil, notDone("OpenSession", err) // nobody knows a session that it may have opened
	}
	return &replkvv1.OpenSessionResponse{Session: id[:]}, nil
}

func (s *kvServer) Write(ctx context.Context, req *replkvv1.WriteRequest) (*replkvv1.WriteResponse, error) {
	b, err := batchOf(req)
	if err != nil {
		return nil, notDone("Write", err)
	}
	done, err := s.b.Write(ctx, b)
	if err != nil {
		return nil, writeError("Write", err)
	}
	if len(done) != len(b.Writes) {
		return nil, writeError("Write", fmt.Errorf("%w: %d results for %d operations", kv.ErrCorrupt, len(done), len(b.Writes)))
	}
	return writeResponse(b, done), nil
}

func batchOf(req *replkvv1.WriteRequest) (*batch.Batch, error) {
	b := &batch.Batch{Seq: req.GetSeq(), LowWater: req.GetLowWater()}
	switch n := len(req.GetOperations()); {
	case len(req.GetSession()) != len(b.Session) || batch.Session(req.GetSession()) == batch.Session{}:
		return nil, invalid("the session is not 16 bytes")
	case b.Seq == 0 || b.LowWater >= b.Seq:
		return nil, invalid("seq %d with low_water %d", b.Seq, b.LowWater)
	case n == 0 || n > batch.MaxWrites:
		return nil, invalid("%d operations, a batch has 1 to %d", n, batch.MaxWrites)
	}
	b.Session = batch.Session(req.GetSession())
	b.Writes = make([]batch.Write, len(req.GetOperations()))
	for i, op := range req.GetOperations() {
		b.Writes[i] = writeOf(op)
	}
	return b, nil
}

func writeOf(m *replkvv1.WriteOperation) (w batch.Write) {
	switch op := m.GetOperation().(type) {
	case *replkvv1.WriteOperation_Set:
		w.Op, w.Value = "Set", op.Set.GetValue()
		w.Key, w.Refused = key(op.Set.GetKey())
		addCondition(&w, op.Set.GetCondition())
		lease, err := grantID(op.Set.GetLease())
		if w.Set.Lease = lease; err != nil && w.Refused == nil {
			w.Refused = err
		}
	case *replkvv1.WriteOperation_Delete:
		w.Op, w.Delete.ReturnPrev = "Delete", op.Delete.GetReturnPrev()
		w.Key, w.Refused = key(op.Delete.GetKey())
		addCondition(&w, op.Delete.GetCondition())
	case *replkvv1.WriteOperation_DeleteRange:
		w.Op, w.Delete.ReturnPrev = "DeleteRange", op.DeleteRange.GetReturnPrev()
		w.Range, w.Refused = keyRange(op.DeleteRange.GetRange())
	case *replkvv1.WriteOperation_Txn:
		w.Op = "Txn"
		w.Txn, w.Refused = txnOf(op.Txn)
	case *replkvv1.WriteOperation_Grant:
		w.Op = "Grant"
		w.Lease, w.TTL, w.Refused = grantOf(op.Grant)
	case *replkvv1.WriteOperation_Revoke:
		w.Op, w.Lease = "Revoke", kv.LeaseID(op.Revoke.GetId())
		w.Refused = w.Lease.Validate()
	case *replkvv1.WriteOperation_Compact:
		w.Op, w.Revision = "Compact", kv.Revision(op.Compact.GetRevision())
		w.Refused = compactRevision(op.Compact.GetRevision())
	default:
		w.Op, w.Refused = "Write", invalid("no operation")
	}
	return w
}

// grantOf wants an id: of one that a retry would draw anew, the client would know
// nothing.
func grantOf(m *replkvv1.GrantRequest) (id kv.LeaseID, ttl time.Duration, err error) {
	id = kv.LeaseID(m.GetId())
	if err := id.Validate(); err != nil {
		return id, 0, err
	}
	ttl, err = leaseTTL(m.GetTtlMs())
	return id, ttl, err
}

func addCondition(w *batch.Write, m *replkvv1.Condition) {
	cond, err := condition(m)
	switch {
	case err != nil && w.Refused == nil:
		w.Refused = err
	case cond != nil:
		cond.ApplySet(&w.Set)
		cond.ApplyDelete(&w.Delete)
	}
}

// writeResponse is the answer to a batch that was done. Items that do not fit the
// message are dropped, the last operations' first.
func writeResponse(b *batch.Batch, done []batch.Result) *replkvv1.WriteResponse {
	out := &replkvv1.WriteResponse{Results: make([]*replkvv1.WriteResult, len(done))}
	for i := range done {
		d := &done[i]
		out.Results[i] = &replkvv1.WriteResult{Revision: int64(d.Revision), Deleted: d.Deleted, Error: encodeError(b.Writes[i].Op, d.Err)}
	}
	size := proto.Size(out) + len(done)*droppedBytes
	for i := range done {
		op, d, r := b.Writes[i].Op, &done[i], out.Results[i]
		if op == "Txn" && errors.Is(d.Err, kv.ErrResultDropped) {
			r.Txn = branchTaken(&d.Txn)
		}
		if d.Err != nil || len(d.Prev) == 0 && op != "Txn" {
			continue
		}
		without := proto.Size(r)
		if op == "Txn" {
			r.Txn = txnToProto(&d.Txn)
		}
		for j := range d.Prev {
			r.Prev = append(r.Prev, itemToProto(&d.Prev[j]))
		}
		n := proto.Size(r) - without
		if size+n <= maxMessageBytes {
			size += n
			continue
		}
		r.Prev, r.Txn = nil, nil
		if op == "Txn" {
			r.Txn = branchTaken(&d.Txn)
		}
		r.Error = encodeError(op, dropped(op, d, n))
	}
	return out
}

// branchTaken is what stays of a transaction's answer that is dropped: whether an
// Update was committed must not be in doubt.
func branchTaken(res *kv.TxnResult) *replkvv1.TxnResponse {
	return &replkvv1.TxnResponse{Succeeded: res.Succeeded, Revision: int64(res.Revision)}
}

// dropped: it was done, but the answer does not fit a message.
func dropped(op string, d *batch.Result, n int) error {
	if op == "Txn" {
		return txnDropped(&d.Txn, n)
	}
	return &kv.Error{Op: op, Outcome: kv.OutcomeDone,
		Err: fmt.Errorf("%w: %d keys deleted at revision %d, %d bytes do not fit a message", kv.ErrResultDropped, d.Deleted, d.Revision, n)}
}

// droppedBytes is reserved for the error of what is dropped.
const droppedBytes = 256

// encodeError is nil without an error. It never is with one: that would mean
// done.
func encodeError(op string, err error) []byte {
	if err == nil {
		return nil
	}
	raw, err := proto.Marshal(status.Convert(writeError(op, err)).Proto())
	if err != nil || len(raw) == 0 { // cannot be: strings are clean, and its code is not OK
		return []byte{0x08, byte(codes.Unknown)}
	}
	return raw
}
