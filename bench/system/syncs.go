package system

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/replkv/replkv/bench/load"
)

// SyncedSets is how many lone sets the check of syncs does.
const SyncedSets = 300

// SyncCheck is what that check tells about itself; the syncs are counted by who
// traces the process.
type SyncCheck struct {
	Sets     int `json:"sets"`
	Majority int `json:"majority"`
}

// Mark is the name that a traced process looks up before set i ("begin") and
// after its answer ("end"), so that the trace shows which syncs lie between.
func Mark(what string, i int) string { return fmt.Sprintf("replkv-bench-mark:%s:%d", what, i) }

// syncs does sets, one after another, with marks between them.
func syncs(s System, emit func(any) error) error {
	data := load.NewData(SyncedSets, 256)
	rng := rand.New(rand.NewPCG(1, 3))
	for i, key := range data.Keys {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_ = syscall.Access(Mark("begin", i), 0)
		err := s.Set(ctx, key, data.Value(rng))
		_ = syscall.Access(Mark("end", i), 0)
		cancel()
		if err != nil {
			return fmt.Errorf("set %d: %w", i, err)
		}
	}
	return emit(SyncCheck{Sets: SyncedSets, Majority: s.Majority()})
}
