package disk

import (
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Mem is a file system in memory that knows what was synced.
type Mem = vfs.MemFS

// NewMem returns an empty file system that can crash.
func NewMem() *Mem { return vfs.NewCrashableMem() }

// Crash returns what a power loss would leave of fs: all that was synced, and
// of the rest what a random choice by seed keeps. Writes to fs go on there and
// are not seen in the copy.
func Crash(fs *Mem, seed uint64) *Mem {
	rng := rand.New(rand.NewPCG(seed, 0))
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
}

// CrashHard is a Crash that loses all that was not synced.
func CrashHard(fs *Mem) *Mem { return fs.CrashClone(vfs.CrashCloneCfg{}) }
