package kvtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/replkv/replkv/kv"
)

// Run checks what every implementation of kv.KV must obey, embedded or remote.
// open returns an empty store, closed by the test's cleanup, with limits at or
// below those of this package.
func Run(t *testing.T, open func(t *testing.T) kv.KV) {
	for name, test := range map[string]func(*testing.T, kv.KV){
		"SetAndGet":      setAndGet,
		"BinaryKeys":     binaryKeys,
		"Conditions":     conditions,
		"Delete":         deletes,
		"DeleteRange":    deleteRanges,
		"Scan":           scans,
		"ScanOptions":    scanOptions,
		"ScanLarge":      scanLarge,
		"ScanBreak":      scanBreak,
		"WriteInLoop":    writeInLoop,
		"Revisions":      revisions,
		"AtLeast":        atLeast,
		"Validation":     validation,
		"Ownership":      ownership,
		"EndedContext":   endedContext,
		"ExpiredContext": expiredContext,
		"Txn":            transactions,
		"TxnValidation":  txnValidation,
		"Update":         updates,
		"View":           views,
		"GetMany":        getMany,

		"Watch":          watches,
		"WatchResume":    watchResume,
		"WatchFilters":   watchFilters,
		"WatchPrevious":  watchPrevious,
		"WatchAtomic":    watchAtomic,
		"WatchLarge":     watchLarge,
		"WatchProgress":  watchProgress,
		"WatchEnds":      watchEnds,
		"WatchInvalid":   watchInvalid,
		"WatchOwnership": watchOwnership,
		"WatchSnapshot":  watchSnapshot,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func set(t *testing.T, s kv.KV, key, value string) kv.Revision {
	t.Helper()
	rev, err := s.Set(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatalf("Set %q: %v", key, err)
	}
	return rev
}

// want checks that err matches the sentinel, and is classified as not done.
func want(t *testing.T, err, sentinel error) {
	t.Helper()
	e, ok := errors.AsType[*kv.Error](err)
	switch {
	case !errors.Is(err, sentinel):
		t.Errorf("got error %v, want %v", err, sentinel)
	case !ok:
		t.Errorf("error %v is a %T, not a *kv.Error", err, err)
	case e.Op == "":
		t.Errorf("error %v names no operation", err)
	case e.Outcome != kv.OutcomeNotDone || errors.Is(err, kv.ErrOutcomeUnknown):
		t.Errorf("error %v has outcome %v", err, e.Outcome)
	}
}

// collect returns the keys of a scan and its error.
func collect(ctx context.Context, s kv.KV, r kv.Range, opts ...kv.ScanOption) (keys []string, err error) {
	for it, e := range s.Scan(ctx, r, opts...) {
		if err != nil {
			return keys, errors.New("a pair after the error")
		}
		if e != nil {
			err = e
			continue
		}
		keys = append(keys, it.Key)
	}
	return keys, err
}

func wantKeys(t *testing.T, s kv.KV, r kv.Range, opts []kv.ScanOption, keys ...string) {
	t.Helper()
	got, err := collect(t.Context(), s, r, opts...)
	if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", keys) {
		t.Errorf("scan of %v: %q, %v; want %q", r, got, err, keys)
	}
}

func setAndGet(t *testing.T, s kv.KV) {
	ctx := t.Context()
	_, err := s.Get(ctx, "username")
	want(t, err, kv.ErrNotFound)
	first := set(t, s, "username", "admin")
	second := set(t, s, "username", "root")
	if first != 2 || second != 3 {
		t.Errorf("revisions %d and %d, want 2 and 3", first, second)
	}
	it, err := s.Get(ctx, "username")
	if err != nil || it.Key != "username" || string(it.Value) != "root" || it.CreateRevision != 2 ||
		it.ModRevision != 3 || it.Version != 2 || it.Lease != 0 {
		t.Errorf("got %+v, %v", it, err)
	}
	for _, opt := range []kv.GetOption{kv.Local(), kv.AtLeast(3), kv.MaxStaleness(time.Minute)} {
		if it, err := s.Get(ctx, "username", opt); err != nil || it.ModRevision != 3 {
			t.Errorf("got %+v, %v", it, err)
		}
	}
	if _, err := s.Set(ctx, "nil", nil); err != nil {
		t.Fatal(err)
	}
	if it, err := s.Get(ctx, "nil"); err != nil || it.Value == nil || len(it.Value) != 0 {
		t.Errorf("a nil value came back as %#v, %v", it.Value, err)
	}
}

func binaryKeys(t *testing.T, s kv.KV) {
	keys := []string{"\x00", "\x00\x00", "\t", "a", "a\x00", "a\x00\t", "a\xff", "é", "\xff", "\xff\xff"}
	for i, k := range keys {
		set(t, s, k, fmt.Sprint(i)+"\x00\xff")
	}
	for i, k := range keys {
		if it, err := s.Get(t.Context(), k); err != nil || string(it.Value) != fmt.Sprint(i)+"\x00\xff" || it.Key != k {
			t.Errorf("key %q: %+v, %v", k, it, err)
		}
	}
	wantKeys(t, s, kv.All(), nil, keys...)
	wantKeys(t, s, kv.Prefix("\xff"), nil, "\xff", "\xff\xff")
}

func conditions(t *testing.T, s kv.KV) {
	ctx := t.Context()
	rev, err := s.Set(ctx, "k", []byte("1"), kv.IfAbsent())
	if err != nil || rev != 2 {
		t.Fatalf("got %d, %v", rev, err)
	}
	_, err = s.Set(ctx, "k", []byte("2"), kv.IfAbsent())
	want(t, err, kv.ErrConflict)
	_, err = s.Set(ctx, "k", []byte("2"), kv.IfRevision(7))
	want(t, err, kv.ErrConflict)
	_, err = s.Set(ctx, "absent", []byte("2"), kv.IfRevision(2))
	want(t, err, kv.ErrConflict)
	if rev, err = s.Set(ctx, "k", []byte("2"), kv.IfRevision(2)); err != nil || rev != 3 {
		t.Fatalf("got %d, %v", rev, err)
	}
	_, err = s.Delete(ctx, "k", kv.IfRevision(2))
	want(t, err, kv.ErrConflict)
	_, err = s.Delete(ctx, "k", kv.IfRevision(0))
	want(t, err, kv.ErrConflict)
	if res, err := s.Delete(ctx, "k", kv.IfRevision(3)); err != nil || res.Deleted != 1 || res.Revision != 4 {
		t.Errorf("got %+v, %v", res, err)
	}
	if res, err := s.Delete(ctx, "k", kv.IfRevision(0)); err != nil || res.Deleted != 0 || res.Revision != 4 {
		t.Errorf("got %+v, %v", res, err)
	}
}

func deletes(t *testing.T, s kv.KV) {
	ctx := t.Context()
	if res, err := s.Delete(ctx, "username"); err != nil || res.Deleted != 0 || res.Revision != 1 || res.Prev != nil {
		t.Errorf("delete of nothing: %+v, %v", res, err)
	}
	set(t, s, "username", "admin")
	res, err := s.Delete(ctx, "username", kv.ReturnPrev())
	if err != nil || res.Deleted != 1 || res.Revision != 3 || len(res.Prev) != 1 ||
		string(res.Prev[0].Value) != "admin" || res.Prev[0].ModRevision != 2 || res.Prev[0].Version != 1 {
		t.Errorf("got %+v, %v", res, err)
	}
	_, err = s.Get(ctx, "username")
	want(t, err, kv.ErrNotFound)
	set(t, s, "username", "again")
	if it, err := s.Get(ctx, "username"); err != nil || it.CreateRevision != 4 || it.Version != 1 {
		t.Errorf("got %+v, %v", it, err)
	}
	if res, err := s.Delete(ctx, "username"); err != nil || res.Deleted != 1 || res.Prev != nil {
		t.Errorf("got %+v, %v", res, err)
	}
}

func deleteRanges(t *testing.T, s kv.KV) {
	ctx := t.Context()
	for _, k := range []string{"a", "b1", "b2", "c"} {
		set(t, s, k, "v"+k)
	}
	res, err := s.DeleteRange(ctx, kv.Prefix("b"), kv.ReturnPrev())
	if err != nil || res.Deleted != 2 || res.Revision != 6 || len(res.Prev) != 2 || res.Prev[0].Key != "b1" ||
		string(res.Prev[1].Value) != "vb2" {
		t.Errorf("got %+v, %v", res, err)
	}
	if res, err := s.DeleteRange(ctx, kv.Between("x", "z")); err != nil || res.Deleted != 0 || res.Revision != 6 {
		t.Errorf("got %+v, %v", res, err)
	}
	if res, err := s.DeleteRange(ctx, kv.From("b")); err != nil || res.Deleted != 1 || res.Revision != 7 || res.Prev != nil {
		t.Errorf("got %+v, %v", res, err)
	}
	wantKeys(t, s, kv.All(), nil, "a")
}

func scans(t *testing.T, s kv.KV) {
	wantKeys(t, s, kv.All(), nil)
	for _, k := range []string{"b", "a", "c", "ab"} {
		set(t, s, k, "v"+k)
	}
	wantKeys(t, s, kv.All(), nil, "a", "ab", "b", "c")
	wantKeys(t, s, kv.Key("a"), nil, "a")
	wantKeys(t, s, kv.Key("none"), nil)
	wantKeys(t, s, kv.Prefix("a"), nil, "a", "ab")
	wantKeys(t, s, kv.Between("ab", "c"), nil, "ab", "b")
	wantKeys(t, s, kv.Between("b", "b"), nil)
	wantKeys(t, s, kv.Between("", ""), nil)
	wantKeys(t, s, kv.From("b"), nil, "b", "c")
	seq := s.Scan(t.Context(), kv.Key("b"))
	for range 2 { // each loop is a scan of its own
		for it, err := range seq {
			if err != nil || string(it.Value) != "vb" || it.ModRevision != 2 || it.Version != 1 || it.CreateRevision != 2 {
				t.Errorf("got %+v, %v", it, err)
			}
		}
	}
}

func scanOptions(t *testing.T, s kv.KV) {
	for i := range 9 {
		set(t, s, fmt.Sprintf("k%d", i), "v")
	}
	opts := func(o ...kv.ScanOption) []kv.ScanOption { return o }
	wantKeys(t, s, kv.All(), opts(kv.Limit(2)), "k0", "k1")
	wantKeys(t, s, kv.From("k7"), opts(kv.Limit(0)), "k7", "k8")
	wantKeys(t, s, kv.All(), opts(kv.Limit(3), kv.Reverse()), "k8", "k7", "k6")
	wantKeys(t, s, kv.Between("k2", "k4"), opts(kv.Reverse()), "k3", "k2")
	wantKeys(t, s, kv.All(), opts(kv.AtRevision(3)), "k0", "k1")
	wantKeys(t, s, kv.From("k8"), opts(kv.Local()), "k8")
	wantKeys(t, s, kv.From("k8"), opts(kv.AtLeast(10)), "k8")
	for it, err := range s.Scan(t.Context(), kv.Key("k1"), kv.KeysOnly()) {
		if err != nil || it.Value != nil || it.ModRevision != 3 {
			t.Errorf("got %+v, %v", it, err)
		}
	}
}

// scanLarge scans more than fits one message, and items that nearly fill one.
func scanLarge(t *testing.T, s kv.KV) {
	ctx := t.Context()
	n := 0
	for _, size := range []int{900 << 10, 0, 1 << 20, 1<<20 - 20, 1, 1 << 20, 700 << 10, 700 << 10} {
		n++
		if _, err := s.Set(ctx, fmt.Sprintf("large%d", n), bytes.Repeat([]byte{byte(n)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for it, err := range s.Scan(ctx, kv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		got++
		if it.Key != fmt.Sprintf("large%d", got) || bytes.Count(it.Value, []byte{byte(got)}) != len(it.Value) {
			t.Fatalf("item %d is %q with %d bytes", got, it.Key, len(it.Value))
		}
	}
	if got != n {
		t.Errorf("%d items, want %d", got, n)
	}
}

func scanBreak(t *testing.T, s kv.KV) {
	for i := range 20 {
		set(t, s, fmt.Sprintf("k%02d", i), "v")
	}
	for range 50 {
		for it, err := range s.Scan(t.Context(), kv.All()) {
			if err != nil || it.Key != "k00" {
				t.Fatalf("got %+v, %v", it, err)
			}
			break
		}
	}
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("a panic in the body did not pass through")
			}
		}()
		for range s.Scan(t.Context(), kv.All()) {
			panic("mine")
		}
	}()
}

func writeInLoop(t *testing.T, s kv.KV) {
	set(t, s, "a", "1")
	set(t, s, "b", "1")
	n := 0
	for it, err := range s.Scan(t.Context(), kv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		set(t, s, it.Key+it.Key, "2")
	}
	if n != 2 {
		t.Errorf("the scan saw %d items of one revision that has 2", n)
	}
}

func revisions(t *testing.T, s kv.KV) {
	ctx := t.Context()
	if rev, err := s.Revision(ctx); err != nil || rev != 1 {
		t.Errorf("an empty store is at %d, %v", rev, err)
	}
	set(t, s, "k", "1")
	set(t, s, "k", "2")
	if rev, err := s.Revision(ctx); err != nil || rev != 3 {
		t.Errorf("got %d, %v", rev, err)
	}
	if it, err := s.Get(ctx, "k", kv.AtRevision(2)); err != nil || string(it.Value) != "1" || it.ModRevision != 2 {
		t.Errorf("got %+v, %v", it, err)
	}
	_, err := s.Get(ctx, "k", kv.AtRevision(1))
	want(t, err, kv.ErrNotFound)
	_, err = s.Get(ctx, "k", kv.AtRevision(4))
	want(t, err, kv.ErrFutureRevision)
	_, err = collect(ctx, s, kv.All(), kv.AtRevision(4))
	want(t, err, kv.ErrFutureRevision)
}

func atLeast(t *testing.T, s kv.KV) {
	rev := set(t, s, "k", "1")
	got := make(chan error, 1)
	go func() {
		_, err := s.Get(t.Context(), "later", kv.AtLeast(rev+1))
		got <- err
	}()
	set(t, s, "later", "1")
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func validation(t *testing.T, s kv.KV) {
	ctx := t.Context()
	long := string(bytes.Repeat([]byte("k"), MaxKeyBytes+1))
	_, err := s.Get(ctx, "")
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Get(ctx, long) // it may have been put under another limit
	want(t, err, kv.ErrNotFound)
	if _, err = s.Delete(ctx, long); err != nil {
		t.Errorf("Delete of a long key that is not there: %v", err)
	}
	_, err = s.Get(ctx, string(bytes.Repeat([]byte("k"), mostKeyBytes+1)))
	want(t, err, kv.ErrTooLarge)
	_, err = s.Get(ctx, "k", kv.AtRevision(-1))
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Get(ctx, "k", kv.AtLeast(-1))
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Get(ctx, "k", kv.AtLeast(1), kv.Local())
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Set(ctx, "", nil)
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Set(ctx, long, nil)
	want(t, err, kv.ErrTooLarge)
	for _, n := range []int{MaxValueBytes + 1, 5 << 20} { // just too large, and more than a message takes
		_, err = s.Set(ctx, "k", make([]byte, n))
		want(t, err, kv.ErrTooLarge)
	}
	_, err = s.Set(ctx, "k", nil, kv.IfRevision(-1))
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Delete(ctx, "")
	want(t, err, kv.ErrInvalidArgument)
	_, err = s.Delete(ctx, "k", kv.IfRevision(-1))
	want(t, err, kv.ErrInvalidArgument)
	for _, r := range []kv.Range{{}, kv.Between("b", "a")} {
		_, err = s.DeleteRange(ctx, r)
		want(t, err, kv.ErrInvalidArgument)
		_, err = collect(ctx, s, r)
		want(t, err, kv.ErrInvalidArgument)
	}
	_, err = s.DeleteRange(ctx, kv.All(), kv.IfRevision(3))
	want(t, err, kv.ErrInvalidArgument)
	_, err = collect(ctx, s, kv.All(), kv.Limit(-1))
	want(t, err, kv.ErrInvalidArgument)
	if rev, err := s.Revision(ctx); err != nil || rev != 1 {
		t.Errorf("something was written: revision %d, %v", rev, err)
	}
}

// ownership: arguments are copied, and what is returned belongs to the caller.
func ownership(t *testing.T, s kv.KV) {
	value := []byte("before")
	if _, err := s.Set(t.Context(), "k", value); err != nil {
		t.Fatal(err)
	}
	copy(value, "after!")
	for range 2 {
		it, err := s.Get(t.Context(), "k")
		if err != nil || string(it.Value) != "before" {
			t.Fatalf("got %q, %v", it.Value, err)
		}
		copy(it.Value, "mine!!")
	}
}

// endedContext: a call with a ctx that has ended does nothing and says so.
func endedContext(t *testing.T, s kv.KV) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "k")
	want(t, err, context.Canceled)
	_, err = s.Set(ctx, "k", nil)
	want(t, err, context.Canceled)
	_, err = s.Delete(ctx, "k")
	want(t, err, context.Canceled)
	_, err = s.DeleteRange(ctx, kv.All())
	want(t, err, context.Canceled)
	_, err = s.Revision(ctx)
	want(t, err, context.Canceled)
	_, err = collect(ctx, s, kv.All())
	want(t, err, context.Canceled)
	if rev, err := s.Revision(t.Context()); err != nil || rev != 1 {
		t.Errorf("something was written: revision %d, %v", rev, err)
	}
}

// expiredContext: a scan under way ends with its ctx.
func expiredContext(t *testing.T, s kv.KV) {
	for i := range 20 {
		if _, err := s.Set(t.Context(), fmt.Sprintf("k%02d", i), make([]byte, 512<<10)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range s.Scan(ctx, kv.All()) {
		n, last = n+1, err
		cancel()
	}
	want(t, last, context.Canceled)
	if n > 20 {
		t.Errorf("%d pairs after the ctx ended", n)
	}
}
