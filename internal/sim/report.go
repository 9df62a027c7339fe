package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// again is the command that runs the seed again, which fails often and not always, and
// the one that repeats.
func (r *run) again() string {
	s := fmt.Sprintf("REPLKV_SIM_SEED=%d REPLKV_SIM_LENGTH=%v", r.cfg.Seed, r.cfg.Length)
	if r.cfg.Profile != "" {
		s += fmt.Sprintf(" REPLKV_SIM_PROFILE=%q", r.cfg.Profile)
	}
	s += " go test -run '^TestSim$' ./internal/sim"
	repeat := fmt.Sprintf("go run ./internal/sim/cmd/replay -seed %d -length %v", r.cfg.Seed, r.cfg.Length)
	if r.cfg.Profile != "" {
		repeat += fmt.Sprintf(" -profile %q", r.cfg.Profile)
	}
	return s + "\nor, if that passes: " + repeat + " (the same each time; with -schedule and any word in another order)"
}

// maxShown bounds what of a timeline is printed; a file has it all.
const maxShown = 60_000

// report prints what went wrong, and all that led to it.
func (r *run) report(t *testing.T) {
	t.Helper()
	if !r.failed() {
		t.Logf("seed %d: %v: %v", r.cfg.Seed, &r.plan, r.cover.by)
		if !r.cfg.Keep {
			return
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\nAgain: %s\n", r.cfg.Seed, &r.plan, r.again())
	for _, f := range r.failures {
		fmt.Fprintf(&b, "FAILED: %s\n", f)
	}
	head := b.String()
	fmt.Fprintf(&b, "\nThe nemesis:\n%s\nWhat the members did:\n%s\nThe history:\n", r.log.all("nemesis"), r.log.all(""))
	r.writeHistory(&b)
	name := filepath.Join(r.cfg.Out, fmt.Sprintf("replkv-sim-%d.txt", r.cfg.Seed))
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Logf("the whole report could not be written: %v", err)
	}
	if !r.failed() {
		t.Logf("the report is in %s", name)
		return
	}
	timeline := r.log.all("")
	if len(timeline) > maxShown {
		timeline = timeline[:maxShown] + "... (cut here)\n"
	}
	t.Errorf("%s\nThe nemesis:\n%s\nWhat the members did:\n%s\nWith the history of all operations: %s", head, r.log.all("nemesis"), timeline, name)
}

// picture writes porcupine's picture of a history to a file and says where.
func (r *run) picture(model porcupine.Model, info porcupine.LinearizationInfo) string {
	name := filepath.Join(r.cfg.Out, fmt.Sprintf("replkv-sim-%d.html", r.cfg.Seed))
	if err := porcupine.VisualizePath(model, info, name); err != nil {
		return fmt.Sprintf("(no picture: %v)", err)
	}
	return "a picture is in " + name
}
