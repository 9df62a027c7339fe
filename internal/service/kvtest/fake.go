package kvtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// Limits of a Fake, the defaults of the store.
const (
	MaxKeyBytes   = 4096
	MaxValueBytes = 3 << 20
	MaxRangeKeys  = 10_000
)

// Fake is a kv.KV in memory with all of its history, and a kv.Cluster of
// members that do not run.
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

	mu        sync.Mutex // protects the fields below
	rev       kv.Revision
	compacted kv.Revision
	history   map[string][]kv.Item // oldest first; Version 0: a deletion
	changed   chan struct{}        // closed and replaced at each revision
	closed    bool
	calls     map[string]int
	members   []kv.Member
	table     uint64 // Membership.Index
}

// NewFake returns an empty store, at revision 1.
func NewFake() *Fake {
	return &Fake{rev: 1, history: map[string][]kv.Item{}, changed: make(chan struct{}), calls: map[string]int{}, Sessions: NewSessions(),
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
func (f *Fake) Compact(rev kv.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.compacted = rev
	f.tellLocked()
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

func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", kv.ErrInvalidArgument)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: key of %d bytes", kv.ErrTooLarge, len(key))
	}
	return nil
}

// at returns the item of key as of rev.
func (f *Fake) at(key string, rev kv.Revision) (kv.Item, bool) {
	h := f.history[key]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].ModRevision <= rev {
			it := h[i]
			it.Value = append([]byte{}, it.Value...)
			return it, it.Version > 0
		}
	}
	return kv.Item{}, false
}

func (f *Fake) in(r kv.Range, rev kv.Revision) []kv.Item {
	var out []kv.Item
	for k := range f.history {
		if it, ok := f.at(k, rev); ok && r.Contains(k) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b kv.Item) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// holds says whether the condition on key does.
func (f *Fake) holds(key string, conditional bool, want kv.Revision) bool {
	it, ok := f.at(key, f.rev)
	return !conditional || want == 0 && !ok || ok && it.ModRevision == want
}

// advance begins a new revision.
func (f *Fake) advance() {
	f.rev++
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
	for f.rev < o.AtLeast {
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
		return f.rev, nil
	case o.Revision < f.compacted:
		return 0, &kv.CompactedError{Revision: o.Revision, Compacted: f.compacted}
	case o.Revision > f.rev:
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
	err = checkKey(key)
	switch {
	case err != nil:
	case len(value) > MaxValueBytes:
		err = fmt.Errorf("%w: value of %d bytes", kv.ErrTooLarge, len(value))
	case o.IfRevision < 0:
		err = fmt.Errorf("%w: revision %d", kv.ErrInvalidArgument, o.IfRevision)
	case !f.holds(key, o.Conditional, o.IfRevision):
		err = kv.ErrConflict
	}
	if err != nil {
		return 0, fail("Set", err)
	}
	f.advance()
	it := kv.Item{Key: key, Value: append([]byte{}, value...), CreateRevision: f.rev, ModRevision: f.rev, Version: 1}
	if old, ok := f.at(key, f.rev); ok {
		it.CreateRevision, it.Version = old.CreateRevision, old.Version+1
	}
	f.history[key] = append(f.history[key], it)
	return f.rev, nil
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
	return f.remove(f.in(kv.Key(key), f.rev), o.ReturnPrev), nil
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
	items := f.in(r, f.rev)
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
		f.history[it.Key] = append(f.history[it.Key], kv.Item{Key: it.Key, ModRevision: f.rev})
	}
	out := kv.DeleteResult{Deleted: int64(len(items)), Revision: f.rev}
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
	return f.rev, err
}

// Status makes a Fake a backend of package service.
func (f *Fake) Status(ctx context.Context) (*replkvv1.StatusResponse, error) {
	err := f.begin(ctx, "Status")
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &replkvv1.StatusResponse{Id: FakeID, Role: "leader", Revision: int64(f.rev), Ready: true,
		Members: []*replkvv1.Member{{Id: FakeID, Voter: true}}}, nil
}

// GetMany makes a Fake a backend of package service. Each key counts as a Get.
func (f *Fake) GetMany(ctx context.Context, keys []string, fn func(kv.Item, error) bool) error {
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
