package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/replkv/replkv/bench/system"
)

var (
	errNoTracer    = errors.New("strace is needed to see whether systems sync; install it (apt install strace), or go on with -verify=false, and then the table does not count")
	errNotVerified = errors.New("not verified")
)

const verifyLimit = 3 * time.Minute

// verify runs both checks of a system and says what they saw.
func verify(ctx context.Context, b binaries, name string, o childOptions) (string, error) {
	synced, err := verifySyncs(ctx, b, name, o)
	if err != nil {
		return synced, err
	}
	linear, err := verifyLinear(ctx, b, name, o)
	return synced + "; " + linear, err
}

// verifySyncs traces lone sets: between call and answer of each, a majority of
// the members must have synced a file.
func verifySyncs(ctx context.Context, b binaries, name string, o childOptions) (outcome string, err error) {
	tracer, err := exec.LookPath("strace")
	if err != nil {
		return "", errNoTracer
	}
	err = inDir(o.dir, func(dir string) error {
		o.dir = dir
		file := filepath.Join(dir, "trace")
		args := []string{"-f", "--seccomp-bpf", "-y", "-e", "trace=fsync,fdatasync,access,faccessat,faccessat2", "-o", file,
			b.path(name), "-verify", "sync"}
		checks, err := runChild[system.SyncCheck](ctx, verifyLimit, tracer, append(args, o.args()...)...)
		if err != nil {
			return err
		}
		trace, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if len(checks) != 1 {
			return fmt.Errorf("%d answers to one check", len(checks))
		}
		outcome, err = judgeSyncs(checks[0], readTrace(bytes.Lines(trace)))
		return err
	})
	return outcome, err
}

func judgeSyncs(c system.SyncCheck, sets []syncedSet) (string, error) {
	if len(sets) != c.Sets {
		return "", fmt.Errorf("the trace shows %d sets of %d", len(sets), c.Sets)
	}
	syncs, short := 0, 0
	for _, s := range sets {
		syncs += s.syncs
		if s.syncs < c.Majority || len(s.members) < c.Majority {
			short++
		}
	}
	outcome := fmt.Sprintf("%d lone sets, %.1f syncs each", c.Sets, float64(syncs)/float64(c.Sets))
	if short > 0 {
		return outcome, fmt.Errorf("%d of %d sets were acknowledged before %d members had synced", short, c.Sets, c.Majority)
	}
	return fmt.Sprintf("%s, on at least %d member(s)", outcome, c.Majority), nil
}

func verifyLinear(ctx context.Context, b binaries, name string, o childOptions) (string, error) {
	o.duration = 3 * time.Second
	var checks []system.LinearCheck
	err := inDir(o.dir, func(dir string) (err error) {
		o.dir = dir
		checks, err = runChild[system.LinearCheck](ctx, verifyLimit, b.path(name), append(o.args(), "-verify", "linear")...)
		return err
	})
	if err != nil {
		return "", err
	}
	if len(checks) != 1 {
		return "", fmt.Errorf("%d answers to one check", len(checks))
	}
	return judgeLinear(checks[0])
}

// enoughReads is how many reads on each member a check must have seen.
const enoughReads = 100

func judgeLinear(c system.LinearCheck) (string, error) {
	outcome := fmt.Sprintf("%d counted writes, reads by member %v", c.Writes, c.Reads)
	if c.Stale > 0 {
		return outcome, fmt.Errorf("%d reads were stale: %s", c.Stale, c.Example)
	}
	for member, n := range c.Reads {
		if n < enoughReads {
			return outcome, fmt.Errorf("only %d reads on member %d", n, member)
		}
	}
	if c.Writes < enoughReads || len(c.Reads) == 0 {
		return outcome, errors.New("too few writes or reads to tell")
	}
	return outcome + ", none stale", nil
}
