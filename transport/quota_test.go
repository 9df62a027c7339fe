package transport

import (
	"sync/atomic"
	"testing"

	"github.com/replkv/replkv/transport/memnet"
)

// TestVerdictTravels: what a leader says of its quota arrives with the answers to
// ReadIndex and Forward, and with nothing else.
func TestVerdictTravels(t *testing.T) {
	n := memnet.New()
	var over, heard atomic.Bool
	var times atomic.Int64
	a := start(t, n, "a", func(c *Config) { c.HearQuota = func(v bool) { heard.Store(v); times.Add(1) } })
	start(t, n, "b", withHandler, func(c *Config) { c.OverQuota = over.Load })
	calls := []func() error{
		func() error { _, _, err := a.ReadIndex(t.Context(), "b", "b:1"); return err },
		func() error { _, _, err := a.Forward(t.Context(), "b", "b:1", []byte("x")); return err },
	}
	want := int64(0)
	for _, v := range []bool{true, false} {
		over.Store(v)
		for i, call := range calls {
			heard.Store(!v)
			if err := call(); err != nil || heard.Load() != v {
				t.Errorf("call %d: heard %v instead of %v, %v", i, heard.Load(), v, err)
			}
			want++
		}
	}
	if _, _, err := a.Forward(t.Context(), "b", "b:1", []byte("conflict")); err == nil {
		t.Error("no conflict")
	}
	if _, _, err := a.Confirm(t.Context(), "b", "b:1", 1); err != nil {
		t.Error(err)
	}
	if got := times.Load(); got != want {
		t.Errorf("heard %d times, not %d", got, want)
	}
}
