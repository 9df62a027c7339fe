package kvtest

import (
	"context"
	"fmt"
	"iter"

	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/kv"
)

// MaxTxnOps is the limit of a Fake, the store's default.
const MaxTxnOps = 10_000

// GetMany implements kv.KV.
func (f *Fake) GetMany(ctx context.Context, keys ...string) (map[string]kv.Item, error) {
	err := f.begin(ctx, "GetMany")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := map[string]kv.Item{}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, fail("GetMany", err)
		}
		if it, ok := f.at(key, f.data.Rev); ok {
			out[key] = it
		}
	}
	return out, nil
}

// Txn implements kv.KV.
func (f *Fake) Txn(ctx context.Context, t kv.Txn) (kv.TxnResult, error) {
	err := f.begin(ctx, "Txn")
	defer f.mu.Unlock()
	if err == nil {
		err = fail("Txn", t.Validate())
	}
	if err == nil && t.Size() > MaxTxnOps {
		err = fail("Txn", fmt.Errorf("%w: %d operations", kv.ErrTooLarge, t.Size()))
	}
	if err != nil {
		return kv.TxnResult{}, err
	}
	before := f.data.Rev
	res, err := f.data.Txn(&t)
	if err != nil {
		return kv.TxnResult{}, fail("Txn", err)
	}
	own(&res)
	if f.data.Rev > before {
		f.data.Rev--
		f.advance()
	}
	return res, nil
}

// own gives the caller its own copies of values.
func own(res *kv.TxnResult) {
	for i := range res.Results {
		r := &res.Results[i]
		for j := range r.Items {
			if v := r.Items[j].Value; v != nil {
				r.Items[j].Value = append([]byte{}, v...)
			}
		}
		if r.Txn != nil {
			own(r.Txn)
		}
	}
}

// View implements kv.KV.
func (f *Fake) View(ctx context.Context, fn func(*kv.ReadTx) error, _ ...kv.ReadOption) error {
	return optimistic.View(ctx, begin{f}, 0, fn)
}

// Update implements kv.KV.
func (f *Fake) Update(ctx context.Context, fn func(*kv.Tx) error) (kv.Revision, error) {
	return optimistic.Update(ctx, begin{f}, &f.turns, kv.TxLimits{KeyBytes: MaxKeyBytes, ValueBytes: MaxValueBytes, Size: MaxTxnOps}, fn, func() {})
}

type begin struct{ *Fake }

func (b begin) Begin(ctx context.Context, _ kv.Revision) (kv.Snapshot, func(), error) {
	rev, err := b.Revision(ctx)
	return snapshot{b.Fake, rev}, func() {}, err
}

type snapshot struct {
	f   *Fake
	rev kv.Revision
}

func (s snapshot) Revision() kv.Revision { return s.rev }

func (s snapshot) Get(ctx context.Context, key string) (kv.Item, error) {
	return s.f.Get(ctx, key, kv.AtRevision(s.rev))
}

func (s snapshot) Scan(ctx context.Context, r kv.Range, o kv.ScanOptions) iter.Seq2[kv.Item, error] {
	opts := []kv.ScanOption{kv.AtRevision(s.rev), kv.Limit(o.Limit)}
	if o.Reverse {
		opts = append(opts, kv.Reverse())
	}
	if o.KeysOnly {
		opts = append(opts, kv.KeysOnly())
	}
	return s.f.Scan(ctx, r, opts...)
}
