package kvtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/kvmodel"
	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/kv"
)

// Limits of a Fake, the defaults of the store.
const (
	MaxKeyBytes   = 4096
	mostKeyBytes  = 64 << 10 // that any store has
	MaxValueBytes = 3 << 20
	MaxRangeKeys  = 10_000
)

// Fake is a kv.KV in memory with all of its history, a kv.Lessor, and a kv.Cluster
// of members that do not run.
type Fake struct {
	// Before, if set, is called at the begin of each call and fails it with
	// what it returns. A *kv.Error passes as it is; anything else is wrapped as
	// not done. Set it before use.
	Before func(ctx context.Context, op string) error
	// After, if set, is called when a batch is done, and may lose its answer: what
	// it returns goes to the client instead. Set it before use.
	After func(ctx context.Context, op string) error
	// Between, if set, is called before each item of a scan.
	Between func(ctx context.Context, n int) error
	// Sessions may be shared by fakes that stand for members of one cluster.
	Sessions *Sessions

	turns optimistic.Turns

	mu      sync.Mutex // protects the fields below
	data    kvmodel.Model
	changed chan struct{} // closed and replaced at each revision
	closed  bool
	calls   map[string]int
	leases  map[kv.LeaseID]*fakeLease
	members []kv.Member
	table   uint64 // Membership.Index
}

// NewFake returns an empty store, at revision 1.
func NewFake() *Fake {
	data := kvmodel.New()
	data.LeaseKeys = MaxLeaseKeys
	return &Fake{data: data, leases: map[kv.LeaseID]*fakeLease{}, changed: make(chan struct{}), calls: map[string]int{}, Sessions: NewSessions(),
		table: 1, members: []kv.Member{{ID: FakeID, Addr: FakeAddr}}}
}

// Close makes all later calls fail with kv.ErrClosed.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.tellLocked()
}

// Compact forgets the history below rev.
func (f *Fake) Compact(ctx context.Context, rev kv.Revision) error {
	err := f.begin(ctx, "Compact")
	defer f.mu.Unlock()
	switch {
	case err != nil:
		return err
	case rev < 1:
		err = fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, rev)
	case rev <= f.data.Compacted:
		err = &kv.CompactedError{Revision: rev, Compacted: f.data.Compacted}
	case rev > f.data.Rev:
		err = kv.ErrFutureRevision
	default:
		f.data.Compacted = rev
		f.tellLocked()
	}
	return fail("Compact", err)
}

// Calls returns how often op was called.
func (f *Fake) Calls(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// begin counts the call and locks the fake; the caller unlocks it, also after
// an error.
func (f *Fake) begin(ctx context.Context, op string) error {
	f.mu.Lock()
	f.calls[op]++
	closed := f.closed
	f.mu.Unlock()
	var err error
	switch {
	case closed:
		err = kv.ErrClosed
	case ctx.Err() != nil:
		err = ctx.Err()
	case f.Before != nil && ctx.Value(inBatch{}) == nil:
		err = f.Before(ctx, op)
	}
	f.mu.Lock()
	f.expireLocked()
	return fail(op, err)
}

func fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*kv.Error](err); ok {
		return e
	}
	return &kv.Error{Op: op, Outcome: kv.OutcomeNotDone, Err: err}
}

// checkKey checks a key that is read or deleted: it may have been put under other limits.
func checkKey(key string) error { return checkKeyBytes(key, mostKeyBytes) }

func checkPut(key string) error { return checkKeyBytes(key, MaxKeyBytes) }

func checkKeyBytes(key string, limit int) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", kv.ErrInvalidArgument)
	case len(key) > limit:
		return fmt.Errorf("%w: key of %d bytes", kv.ErrTooLarge, len(key))
	}
	return nil
}

// at returns the item of key as of rev.
func (f *Fake) at(key string, rev kv.Revision) (kv.Item, bool) {
	it, ok := f.data.At(key, rev)
	it.Value = append([]byte{}, it.Value...)
	return it, ok
}

func (f *Fake) in(r kv.Range, rev kv.Revision) []kv.Item {
	out := f.data.Scan(r, rev, false)
	for i := range out {
		out[i].Value = append([]byte{}, out[i].Value...)
	}
	return out
}

// holds says whether the condition on key does.
func (f *Fake) holds(key string, conditional bool, want kv.Revision) bool {
	it, ok := f.at(key, f.data.Rev)
	return !conditional || want == 0 && !ok || ok && it.ModRevision == want
}

// advance begins a new revision.
func (f *Fake) advance() {
	f.data.Rev++
	f.tellLocked()
}

func (f *Fake) tellLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// bind waits as the options ask and returns the revision to read at.
func (f *Fake) bind(ctx context.Context, o *kv.ReadOptions) (kv.Revision, error) {
	if o.Revision < 0 || o.AtLeast < 0 || o.MaxStaleness < 0 || o.Local && o.AtLeast > 0 || o.MaxStaleness > 0 && (o.Local || o.AtLeast > 0) {
		return 0, fmt.Errorf("%w: read options %+v", kv.ErrInvalidArgument, *o)
	}
	for f.data.Rev < o.AtLeast {
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
			f.mu.Lock()
		case <-ctx.Done():
			f.mu.Lock()
			return 0, ctx.Err()
		}
	}
	switch {
	case o.Revision == 0:
		return f.data.Rev, nil
	case o.Revision < f.data.Compacted:
		return 0, &kv.CompactedError{Revision: o.Revision, Compacted: f.data.Compacted}
	case o.Revision > f.data.Rev:
		return 0, fmt.Errorf("%w: revision %d", kv.ErrFutureRevision, o.Revision)
	}
	return o.Revision, nil
}

// Get implements kv.KV.
func (f *Fake) Get(ctx context.Context, key string, opts ...kv.GetOption) (kv.Item, error) {
	var o kv.ReadOptions
	for _, opt := range opts {
		opt.ApplyGet(&o)
	}
	err := f.begin(ctx, "Get")
	defer f.mu.Unlock()
	if err != nil {
		return kv.Item{}, err
	}
	if err := checkKey(key); err != nil {
		return kv.Item{}, fail("Get", err)
	}
	rev, err := f.bind(ctx, &o)
	if err != nil {
		return kv.Item{}, fail("Get", err)
	}
	it, ok := f.at(key, rev)
	if !ok {
		return kv.Item{}, fail("Get", kv.ErrNotFound)
	}
	return it, nil
}

// Set implements kv.KV.
func (f *Fake) Set(ctx context.Context, key string, value []byte, opts ...kv.SetOption) (kv.Revision, error) {
	var o kv.SetOptions
	for _, opt := range opts {
		opt.ApplySet(&o)
	}
	err := f.begin(ctx, "Set")
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	err = checkPut(key)
	switch {
	case err != nil:
	case len(value) > MaxValueBytes:
		err = fmt.Errorf("%w: value of %d bytes", kv.ErrTooLarge, len(value))
	case o.IfRevision < 0:
		err = fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, o.IfRevision)
	case !f.holds(key, o.Conditional, o.IfRevision):
		err = kv.ErrConflict
	default:
		err = f.mayAttach(key, o.Lease)
	}
	if err != nil {
		return 0, fail("Set", err)
	}
	f.advance()
	f.data.Put(key, value, o.Lease)
	return f.data.Rev, nil
}

// Delete implements kv.KV.
func (f *Fake) Delete(ctx context.Context, key string, opts ...kv.DeleteOption) (kv.DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	err := f.begin(ctx, "Delete")
	defer f.mu.Unlock()
	if err != nil {
		return kv.DeleteResult{}, err
	}
	err = checkKey(key)
	switch {
	case err != nil:
	case o.IfRevision < 0:
		err = fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, o.IfRevision)
	case !f.holds(key, o.Conditional, o.IfRevision):
		err = kv.ErrConflict
	}
	if err != nil {
		return kv.DeleteResult{}, fail("Delete", err)
	}
	return f.remove(f.in(kv.Key(key), f.data.Rev), o.ReturnPrev), nil
}

// DeleteRange implements kv.KV.
func (f *Fake) DeleteRange(ctx context.Context, r kv.Range, opts ...kv.DeleteOption) (kv.DeleteResult, error) {
	var o kv.DeleteOptions
	for _, opt := range opts {
		opt.ApplyDelete(&o)
	}
	err := f.begin(ctx, "DeleteRange")
	defer f.mu.Unlock()
	if err != nil {
		return kv.DeleteResult{}, err
	}
	err = r.Validate()
	if err == nil && o.Conditional {
		err = fmt.Errorf("%w: DeleteRange takes no condition", kv.ErrInvalidArgument)
	}
	items := f.in(r, f.data.Rev)
	if err == nil && len(items) > MaxRangeKeys {
		err = fmt.Errorf("%w: range of %d keys", kv.ErrTooLarge, len(items))
	}
	if err != nil {
		return kv.DeleteResult{}, fail("DeleteRange", err)
	}
	return f.remove(items, o.ReturnPrev), nil
}

func (f *Fake) remove(items []kv.Item, prev bool) kv.DeleteResult {
	if len(items) > 0 {
		f.advance()
	}
	for _, it := range items {
		f.data.Remove(it.Key)
	}
	out := kv.DeleteResult{Deleted: int64(len(items)), Revision: f.data.Rev}
	if prev {
		out.Prev = items
	}
	return out
}

// Scan implements kv.KV.
func (f *Fake) Scan(ctx context.Context, r kv.Range, opts ...kv.ScanOption) iter.Seq2[kv.Item, error] {
	var o kv.ScanOptions
	for _, opt := range opts {
		opt.ApplyScan(&o)
	}
	return func(yield func(kv.Item, error) bool) {
		items, err := f.scan(ctx, r, &o)
		if err != nil {
			yield(kv.Item{}, err)
			return
		}
		for i, it := range items {
			err := ctx.Err()
			if err == nil && f.Between != nil {
				err = f.Between(ctx, i)
			}
			if err != nil {
				yield(kv.Item{}, fail("Scan", err))
				return
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (f *Fake) scan(ctx context.Context, r kv.Range, o *kv.ScanOptions) ([]kv.Item, error) {
	err := f.begin(ctx, "Scan")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = r.Validate()
	if err == nil && o.Limit < 0 {
		err = fmt.Errorf("%w: limit %d", kv.ErrInvalidArgument, o.Limit)
	}
	if err != nil {
		return nil, fail("Scan", err)
	}
	rev, err := f.bind(ctx, &o.ReadOptions)
	if err != nil {
		return nil, fail("Scan", err)
	}
	items := f.in(r, rev)
	if o.Reverse {
		slices.Reverse(items)
	}
	if o.Limit > 0 && len(items) > o.Limit {
		items = items[:o.Limit]
	}
	for i := range items {
		if o.KeysOnly {
			items[i].Value = nil
		}
	}
	return items, nil
}

// Revision implements kv.KV.
func (f *Fake) Revision(ctx context.Context) (kv.Revision, error) {
	err := f.begin(ctx, "Revision")
	defer f.mu.Unlock()
	return f.data.Rev, err
}

// Status makes a Fake a backend of package service.
func (f *Fake) Status(ctx context.Context) (*replkvv1.StatusResponse, error) {
	err := f.begin(ctx, "Status")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &replkvv1.StatusResponse{Id: FakeID, Role: "leader", Revision: int64(f.data.Rev), Ready: true,
		Members: []*replkvv1.Member{{Id: FakeID, Voter: true}}}, nil
}

// ReadMany makes a Fake a backend of package service. Each key counts as a Get.
func (f *Fake) ReadMany(ctx context.Context, keys []string, fn func(kv.Item, error) bool) error {
	err := f.begin(ctx, "GetMany")
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if item, err := f.Get(context.WithValue(ctx, inBatch{}, true), key); !fn(item, err) {
			break
		}
	}
	return nil
}
