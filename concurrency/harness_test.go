package concurrency_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/client"
	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

var (
	_ concurrency.Store = (*replkv.DB)(nil)
	_ concurrency.Store = (*client.Client)(nil)
)

// everyStore runs a test on the embedded handle and on a client of one.
func everyStore(t *testing.T, test func(t *testing.T, store concurrency.Store)) {
	t.Run("db", func(t *testing.T) { test(t, replkvtest.Open(t)) })
	t.Run("client", func(t *testing.T) { test(t, dial(t, replkvtest.Open(t))) })
}

func dial(t *testing.T, db *replkv.DB, opts ...grpc.ServerOption) *client.Client {
	t.Helper()
	srv := grpc.NewServer(opts...)
	if err := db.RegisterClient(srv); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	c, err := client.Dial(client.Config{Endpoints: []string{"passthrough:///db"}, Insecure: true, DialOptions: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// newSession makes a session that is closed when the test ends.
func newSession(t *testing.T, store concurrency.Store, ttl time.Duration) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(context.Background(), store, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db, ok := store.(*replkv.DB)
		stopped := ok && db.Err() != nil // crashed by the test
		if err := s.Close(context.Background()); err != nil && !stopped && !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Close of a session: %v", err)
		}
	})
	return s
}

// keysOf returns all keys below a name.
func keysOf(t *testing.T, store kv.KV, name string) (out []string) {
	t.Helper()
	for it, err := range store.Scan(context.Background(), kv.Prefix(name+"/"), kv.KeysOnly()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, it.Key)
	}
	return out
}

// until polls a condition, generously: it only ends tests that fail.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func queued(t *testing.T, store kv.KV, name string, n int) {
	t.Helper()
	until(t, "the queue of "+name, func() bool { return len(keysOf(t, store, name)) == n })
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if e, ok := err.(*kv.Error); !ok || !strings.HasPrefix(err.Error(), "replkv: "+e.Op+": ") {
		t.Errorf("%s: the error is a %T: %v", what, err, err)
	}
}

// lock takes a lock, which must succeed.
func lock(t *testing.T, m *concurrency.Mutex) concurrency.Token {
	t.Helper()
	token, err := m.Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func unlock(t *testing.T, m *concurrency.Mutex) {
	t.Helper()
	if err := m.Unlock(context.Background()); err != nil {
		t.Error(err)
	}
}
