package replkv

import (
	"context"
	"fmt"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Txn does a transaction: see Txn, the type, and KV. It may be called on any
// member.
func (db *DB) Txn(ctx context.Context, t Txn) (TxnResult, error) {
	op, err := db.txnOp(&t)
	if err != nil {
		return TxnResult{}, db.wrap("Txn", OutcomeNotDone, err)
	}
	return txnResult(db.write(ctx, "Txn", &op))
}

// txnOp validates a transaction by the limits of this member; apply has its own.
func (db *DB) txnOp(t *kv.Txn) (command.Op, error) {
	op := command.Op{Kind: command.Txn, Txn: t}
	if err := t.Validate(); err != nil {
		return op, err
	}
	if n := t.Size(); n > db.cfg.MaxTxnOps {
		return op, fmt.Errorf("%w: %d comparisons and operations, the limit is %d", ErrTooLarge, n, db.cfg.MaxTxnOps)
	}
	if err := db.checkTxn(t); err != nil {
		return op, err
	}
	if n, limit := command.OpLen(&op), db.cfg.maxTxnBytes(); n > limit {
		return op, fmt.Errorf("%w: a transaction of %d bytes, the limit is %d", ErrTooLarge, n, limit)
	}
	return op, nil
}

// maxTxnBytes bounds an encoded transaction: it must fit a batch.
func (c *Config) maxTxnBytes() int { return c.maxBatchBytes() - command.MaxBatchHeader }

// checkTxn checks the sizes of keys and values.
func (db *DB) checkTxn(t *kv.Txn) error {
	for i := range t.If {
		if err := checkRange(t.If[i].Range); err != nil {
			return err
		}
	}
	for _, branch := range [][]kv.Op{t.Then, t.Else} {
		for i := range branch {
			var err error
			switch op := &branch[i]; {
			case op.Kind == kv.OpTxn:
				err = db.checkTxn(op.Txn)
			case op.Kind == kv.OpSet:
				key, _, _ := op.Range.Bounds()
				err = db.checkPut(key, op.Value)
			default:
				err = checkRange(op.Range)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func txnResult(res command.OpResult, err error) (TxnResult, error) {
	if err != nil && (OutcomeOf(err) != OutcomeDone || len(res.Response) == 0) {
		return TxnResult{Revision: Revision(res.Revision)}, err
	}
	out, badly := command.DecodeTxnResult(res.Response)
	out.Revision = Revision(res.Revision)
	if badly != nil { // it was done all the same
		err = &Error{Op: "Txn", Outcome: OutcomeDone, Err: badly}
	}
	return out, err // ErrResultDropped: which branch was taken is known
}
