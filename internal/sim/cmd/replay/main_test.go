package main

import "testing"

// TestWithoutOverlay: where the patches do not fit, the seed is run all the same, once.
func TestWithoutOverlay(t *testing.T) {
	r := &replay{times: 2}
	if args, err := r.patch(t.TempDir(), t.TempDir()); err != nil || len(args) > 0 || r.times != 1 {
		t.Errorf("%q, %v, %d times", args, err, r.times)
	}
}
