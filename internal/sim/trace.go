package sim

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"testing"
)

// tracing says whether the hash of what a run did is asked for. With the overlay
// (package overlay) it is the same each time.
func tracing() bool { return os.Getenv("REPLKV_SIM_TRACE") != "" }

// trace prints a hash of all that happened, in its order, and when.
func (r *run) trace(t *testing.T) {
	h := sha256.New()
	for _, l := range r.log.lines {
		fmt.Fprintln(h, l.at, l)
	}
	r.writeHistory(h)
	t.Logf("TRACE seed %d: %x, %d lines, %d operations", r.cfg.Seed, h.Sum(nil)[:16], len(r.log.lines), len(r.hist.ops))
}

func (r *run) writeHistory(w io.Writer) {
	for _, o := range r.hist.ops {
		fmt.Fprintf(w, "%9.3fs to %9.3fs %v\n", o.Began.Sub(r.log.began).Seconds(), o.Ended.Sub(r.log.began).Seconds(), o)
	}
}
