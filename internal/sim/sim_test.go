package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSim runs some seeds and a fresh one. REPLKV_SIM_SEED=n runs that one,
// REPLKV_SIM_SEEDS=a-b those, REPLKV_SIM_LENGTH=1m each for so long, and
// REPLKV_SIM_PROFILE with that profile of harm. REPLKV_SIM_OUT is a directory for
// reports, with REPLKV_SIM_KEEP those of seeds that passed, too; REPLKV_SIM_COVERAGE a
// file for the counts; REPLKV_SIM_TRACE prints a hash of what happened.
func TestSim(t *testing.T) {
	if !tracing() { // else there is none, whose workers would come between
		defer debug.SetGCPercent(debug.SetGCPercent(400)) // runs are short, and memory is there
	}
	seeds := seedsToRun(t)
	cfg := Config{Profile: os.Getenv("REPLKV_SIM_PROFILE"), Out: os.Getenv("REPLKV_SIM_OUT"), Keep: os.Getenv("REPLKV_SIM_KEEP") != ""}
	if s := os.Getenv("REPLKV_SIM_LENGTH"); s != "" {
		var err error
		if cfg.Length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	all := Coverage{}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			// Real time: where virtual time stands still, nothing in the bubble notices.
			hangs := time.AfterFunc(patience, func() { panic(fmt.Sprintf("seed %d hangs", seed)) })
			defer hangs.Stop()
			cfg.Seed = seed
			all.Add(Run(t, cfg))
		})
	}
	t.Logf("%d seeds: %v", len(seeds), all)
	if missing := all.Missing(len(seeds)); cfg.Profile == "" && len(missing) > 0 {
		t.Errorf("in %d seeds there was none of: %s", len(seeds), strings.Join(missing, ", "))
	}
	if name := os.Getenv("REPLKV_SIM_COVERAGE"); name != "" {
		b, err := json.Marshal(all)
		if err == nil {
			err = os.WriteFile(name, b, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// patience is for a seed, which takes seconds.
const patience = 4 * time.Minute

func seedsToRun(t *testing.T) (seeds []uint64) {
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if s := os.Getenv("REPLKV_SIM_SEED"); s != "" {
		return []uint64{number(s)}
	}
	if s := os.Getenv("REPLKV_SIM_SEEDS"); s != "" {
		from, to, _ := strings.Cut(s, "-")
		for n, last := number(from), number(to); n <= last; n++ {
			seeds = append(seeds, n)
		}
		return seeds
	}
	fixed := 20
	if testing.Short() {
		fixed = 5
	}
	for n := range fixed {
		seeds = append(seeds, uint64(n))
	}
	return append(seeds, rand.Uint64N(1<<32))
}
