package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/replkv/replkv/bench/system"
)

// modulePath is this module: where the command runs does not matter, but it must
// be inside.
const modulePath = "github.com/replkv/replkv/bench"

// childOptions are flags of the systems' processes.
type childOptions struct {
	dir              string
	duration, warmup time.Duration
	value, keys      int
}

func (o childOptions) args() []string {
	return []string{"-dir", o.dir, "-duration", o.duration.String(), "-warmup", o.warmup.String(),
		"-value", fmt.Sprint(o.value), "-keys", fmt.Sprint(o.keys)}
}

// binaries is the directory that holds the systems' binaries.
type binaries string

func checkSystems(names []string) error {
	for _, n := range names {
		if !slices.Contains(systems, n) {
			return fmt.Errorf("no system %q; there are %s", n, strings.Join(systems, ", "))
		}
	}
	return nil
}

// build compiles the systems once, with the commit in them.
func build(ctx context.Context, names []string) (binaries, error) {
	dir, err := os.MkdirTemp("", "replkv-bench-bin-")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-buildvcs=true", "-o", dir}
	for _, n := range names {
		args = append(args, modulePath+"/cmd/"+n)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return binaries(dir), nil
}

func (b binaries) remove() { _ = os.RemoveAll(string(b)) }

func (b binaries) path(name string) string { return filepath.Join(string(b), name) }

// preloadLimit is how long a system may take to start and to load the data.
const preloadLimit = 3 * time.Minute

// measure runs workloads in one process of a system.
func (b binaries) measure(ctx context.Context, name string, workloads []string, o childOptions) (out []system.Result, err error) {
	limit := preloadLimit + time.Duration(len(workloads))*(o.warmup+o.duration+30*time.Second)
	err = inDir(o.dir, func(dir string) error {
		o.dir = dir
		args := append(o.args(), "-workloads", strings.Join(workloads, ","))
		out, err = runChild[system.Result](ctx, limit, b.path(name), args...)
		return err
	})
	return out, err
}

// inDir gives f a directory that is removed afterwards: a system's process that
// is killed does not remove its own.
func inDir(parent string, f func(dir string) error) error {
	dir, err := os.MkdirTemp(parent, "replkv-bench-data-")
	if err != nil {
		return err
	}
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// runChild returns the lines of JSON that a process prints. On an error they are
// those before it.
func runChild[T any](ctx context.Context, limit time.Duration, path string, args ...string) (out []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	// Under strace the system is a grandchild, which an interrupt reaches.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second // then it is killed
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	for d := json.NewDecoder(&stdout); ; {
		var v T
		if derr := d.Decode(&v); derr != nil {
			if err == nil && !errors.Is(derr, io.EOF) {
				err = derr
			}
			break
		}
		out = append(out, v)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, tail(stderr.Bytes()))
	}
	return out, err
}

// tail is the end of what a process complained of.
func tail(b []byte) []byte {
	const enough = 2000
	if len(b) > enough {
		return b[len(b)-enough:]
	}
	return b
}
