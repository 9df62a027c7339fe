package concurrency_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/concurrency"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/replkvtest"
)

// TestUnavailable: a connection that breaks, or a proxy that has nobody to ask for a
// moment, is UNAVAILABLE without a detail. Lock and WatchSnapshot wait.
func TestUnavailable(t *testing.T) {
	db := replkvtest.Open(t)
	var fail atomic.Int64
	gone := func() error {
		if fail.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "error reading from server: EOF")
		}
		return nil
	}
	c := dial(t, db, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		if err := gone(); err != nil {
			return nil, err
		}
		return h(ctx, req)
	}), grpc.StreamInterceptor(func(s any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		if err := gone(); err != nil {
			return err
		}
		return h(s, ss)
	}))
	s := newSession(t, c, 0)
	for n := range int64(3) {
		m := concurrency.NewMutex(s, "job")
		fail.Store(n + 1)
		if _, err := m.Lock(t.Context()); err != nil {
			t.Errorf("Lock, the first %d RPCs fail: %v", n+1, err)
			continue
		}
		unlock(t, m)
	}
	fail.Store(1)
	for _, err := range kv.WatchSnapshot(t.Context(), c, kv.Prefix("job")) {
		if err != nil {
			t.Errorf("WatchSnapshot: %v", err)
		}
		break
	}
}
