package kvtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/replkv/replkv/kv"
)

// Leased is what RunLessor tests.
type Leased interface {
	kv.KV
	kv.Lessor
}

// RunLessor checks what every implementation of kv.Lessor must obey. open returns
// an empty store, closed by the test's cleanup.
func RunLessor(t *testing.T, open func(t *testing.T) Leased) {
	for name, test := range map[string]func(*testing.T, Leased){
		"Grants":      grants,
		"Attach":      attach,
		"Revoke":      revokes,
		"Expires":     expires,
		"KeepAlive":   keepsAlive,
		"TimeToLive":  timeToLive,
		"BadArgument": badLeases,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// forever is a TTL that no test sees the end of.
const forever = time.Hour

func grant(t *testing.T, s Leased, ttl time.Duration, opts ...kv.GrantOption) kv.LeaseID {
	t.Helper()
	id, err := s.Grant(t.Context(), ttl, opts...)
	if err != nil || id <= 0 {
		t.Fatalf("Grant: %d, %v", id, err)
	}
	return id
}

func setOn(t *testing.T, s Leased, key string, id kv.LeaseID) kv.Revision {
	t.Helper()
	rev, err := s.Set(t.Context(), key, []byte("v"), kv.WithLease(id))
	if err != nil {
		t.Fatalf("Set %q: %v", key, err)
	}
	return rev
}

func keysOf(t *testing.T, s Leased, id kv.LeaseID) []string {
	t.Helper()
	info, err := s.TimeToLive(t.Context(), id, kv.WithKeys())
	if err != nil {
		t.Fatalf("TimeToLive: %v", err)
	}
	return info.Keys
}

func grants(t *testing.T, s Leased) {
	before, _ := s.Revision(t.Context())
	a, b := grant(t, s, forever), grant(t, s, kv.MaxLeaseTTL)
	c := grant(t, s, forever+1, kv.WithLeaseID(math.MaxInt64)) // rounded up to milliseconds
	if a == b || c != math.MaxInt64 {
		t.Errorf("leases %d, %d, %d", a, b, c)
	}
	_, err := s.Grant(t.Context(), forever, kv.WithLeaseID(a))
	want(t, err, kv.ErrConflict)
	if after, _ := s.Revision(t.Context()); after != before {
		t.Errorf("a Grant is no revision: %d, then %d", before, after)
	}
	infos, err := s.Leases(t.Context())
	if err != nil || len(infos) != 3 || !slices.IsSortedFunc(infos, func(a, b kv.LeaseInfo) int { return int(min(1, max(-1, a.ID-b.ID))) }) {
		t.Fatalf("Leases: %v, %v", infos, err)
	}
	for _, l := range infos {
		ttl := map[kv.LeaseID]time.Duration{a: forever, b: kv.MaxLeaseTTL, c: forever + time.Millisecond}[l.ID]
		if l.TTL != ttl || l.Remaining > ttl || l.Keys != nil {
			t.Errorf("%+v, want a TTL of %v", l, ttl)
		}
	}
}

func attach(t *testing.T, s Leased) {
	a, b := grant(t, s, forever), grant(t, s, forever)
	rev := setOn(t, s, "k", a)
	if it, err := s.Get(t.Context(), "k"); err != nil || it.Lease != a || it.ModRevision != rev {
		t.Errorf("%+v, %v; want lease %d", it, err, a)
	}
	setOn(t, s, "k", b) // moves it
	setOn(t, s, "\x00\xff", b)
	if got := keysOf(t, s, a); len(got) > 0 {
		t.Errorf("the key that moved hangs on its old lease: %q", got)
	}
	if got := keysOf(t, s, b); !slices.Equal(got, []string{"\x00\xff", "k"}) {
		t.Errorf("keys %q", got)
	}
	set(t, s, "k", "plain") // takes it off
	if it, err := s.Get(t.Context(), "k"); err != nil || it.Lease != 0 {
		t.Errorf("%+v, %v; want no lease", it, err)
	}
	if _, err := s.Delete(t.Context(), "\x00\xff"); err != nil {
		t.Error(err)
	}
	if got := keysOf(t, s, b); len(got) > 0 {
		t.Errorf("keys that were deleted and taken off: %q", got)
	}
	before, _ := s.Revision(t.Context())
	_, err := s.Set(t.Context(), "k", nil, kv.WithLease(a^1<<40))
	want(t, err, kv.ErrLeaseNotFound)
	_, err = s.Set(t.Context(), "k", nil, kv.WithLease(a), kv.IfAbsent())
	want(t, err, kv.ErrConflict)
	if after, _ := s.Revision(t.Context()); after != before {
		t.Errorf("refused Sets made revision %d of %d", after, before)
	}
	if got := keysOf(t, s, a); len(got) > 0 {
		t.Errorf("a refused Set has attached %q", got)
	}
}

func revokes(t *testing.T, s Leased) {
	id, other := grant(t, s, forever), grant(t, s, forever)
	for _, k := range []string{"c", "a", "b", "moved", "plain", "deleted"} {
		setOn(t, s, k, id)
	}
	setOn(t, s, "moved", other)
	set(t, s, "plain", "v")
	if _, err := s.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	last := set(t, s, "last", "v")
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if rev, _ := s.Revision(t.Context()); rev != last+1 {
		t.Errorf("three keys were deleted at revisions %d to %d, want one", last+1, rev)
	}
	var keys []string
	for it, err := range s.Scan(t.Context(), kv.All()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, it.Key)
	}
	if !slices.Equal(keys, []string{"last", "moved", "plain"}) {
		t.Errorf("left are %q", keys)
	}
	want(t, s.Revoke(t.Context(), id), kv.ErrLeaseNotFound)
	_, err := s.TimeToLive(t.Context(), id)
	want(t, err, kv.ErrLeaseNotFound)
	_, err = s.KeepAliveOnce(t.Context(), id)
	want(t, err, kv.ErrLeaseNotFound)
	want(t, s.KeepAlive(t.Context(), id), kv.ErrLeaseNotFound)
	// The id may be granted again; nothing hangs on it.
	if again := grant(t, s, forever, kv.WithLeaseID(id)); len(keysOf(t, s, again)) > 0 {
		t.Error("a new lease has keys of an old one")
	}
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Error(err)
	}
	if rev, _ := s.Revision(t.Context()); rev != last+1 {
		t.Errorf("the revoke of a lease without keys made revision %d", rev)
	}
}

// waitFor polls a condition.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func expires(t *testing.T, s Leased) {
	began := time.Now()
	id := grant(t, s, kv.MinLeaseTTL)
	setOn(t, s, "k", id)
	waitFor(t, "the end of the key", func() bool {
		_, err := s.Get(t.Context(), "k")
		return errors.Is(err, kv.ErrNotFound)
	})
	if lived := time.Since(began); lived < kv.MinLeaseTTL {
		t.Errorf("the key lived %v", lived)
	}
	_, err := s.TimeToLive(t.Context(), id)
	want(t, err, kv.ErrLeaseNotFound)
}

func keepsAlive(t *testing.T, s Leased) {
	id := grant(t, s, forever)
	if ttl, err := s.KeepAliveOnce(t.Context(), id); err != nil || ttl != forever {
		t.Errorf("KeepAliveOnce: %v, %v", ttl, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.KeepAlive(ctx, id) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("KeepAlive whose ctx ended: %v", err)
	}
	// One that has no ctx to end it ends with the lease.
	brief := grant(t, s, kv.MinLeaseTTL)
	go func() { ended <- s.KeepAlive(t.Context(), brief) }()
	if err := s.Revoke(t.Context(), brief); err != nil {
		t.Error(err)
	}
	want(t, <-ended, kv.ErrLeaseNotFound)
}

func timeToLive(t *testing.T, s Leased) {
	id := grant(t, s, forever)
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("k%02d", 49-i))
		setOn(t, s, keys[i], id)
	}
	info, err := s.TimeToLive(t.Context(), id)
	if err != nil || info.ID != id || info.TTL != forever || info.Remaining <= 0 || info.Remaining > forever || info.Keys != nil {
		t.Errorf("%+v, %v", info, err)
	}
	slices.Sort(keys)
	if got := keysOf(t, s, id); !slices.Equal(got, keys) {
		t.Errorf("keys %q", got)
	}
}

func badLeases(t *testing.T, s Leased) {
	ctx := t.Context()
	for _, ttl := range []time.Duration{0, -1, time.Second - 1, kv.MaxLeaseTTL + 1, math.MaxInt64, math.MinInt64} {
		_, err := s.Grant(ctx, ttl)
		want(t, err, kv.ErrInvalidArgument)
	}
	for _, id := range []kv.LeaseID{-1, math.MinInt64} {
		_, err := s.Grant(ctx, forever, kv.WithLeaseID(id))
		want(t, err, kv.ErrInvalidArgument)
		_, err = s.Set(ctx, "k", nil, kv.WithLease(id))
		want(t, err, kv.ErrInvalidArgument)
	}
	for _, id := range []kv.LeaseID{0, -1, math.MinInt64} {
		want(t, s.Revoke(ctx, id), kv.ErrInvalidArgument)
		want(t, s.KeepAlive(ctx, id), kv.ErrInvalidArgument)
		_, err := s.KeepAliveOnce(ctx, id)
		want(t, err, kv.ErrInvalidArgument)
		_, err = s.TimeToLive(ctx, id)
		want(t, err, kv.ErrInvalidArgument)
	}
	if rev, err := s.Revision(ctx); rev != 1 || err != nil {
		t.Errorf("revision %d, %v: something was done", rev, err)
	}
	if infos, err := s.Leases(ctx); len(infos) > 0 || err != nil {
		t.Errorf("leases %v, %v", infos, err)
	}
}
