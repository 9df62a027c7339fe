// Package systemtest tests an implementation of system.System.
package systemtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/replkv/replkv/bench/system"
)

// Run opens a cluster, and reads on each member, and over TCP, what was written
// on the leader. Open takes seconds: with -short it is skipped.
func Run(t *testing.T, open func(dir string) (system.System, error)) {
	if testing.Short() {
		t.Skip("opens a cluster")
	}
	dir := t.TempDir()
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Set(ctx, "key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	want(t, "the leader", "value")(s.Get(ctx, "key"))
	for i := range s.Readers() {
		want(t, fmt.Sprint("member ", i), "value")(s.GetAny(ctx, i, "key"))
	}
	if v, err := s.Get(ctx, "missing"); err == nil && v != nil {
		t.Errorf("a missing key has %q", v)
	}
	// The check of syncs finds members by their directories.
	for i := range 2*s.Majority() - 1 {
		if _, err := os.Stat(system.MemberDir(dir, i)); errors.Is(err, os.ErrNotExist) {
			t.Errorf("member %d has no directory of its own", i)
		}
	}
	r, ok := s.(system.Remoter)
	if !ok {
		return
	}
	kv, err := r.Remote()
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Set(ctx, "key", []byte("changed")); err != nil {
		t.Fatal(err)
	}
	want(t, "the client", "changed")(kv.Get(ctx, "key"))
}

func want(t *testing.T, where, value string) func([]byte, error) {
	return func(got []byte, err error) {
		t.Helper()
		if err != nil || string(got) != value {
			t.Errorf("on %s: %q, %v; want %q", where, got, err, value)
		}
	}
}
