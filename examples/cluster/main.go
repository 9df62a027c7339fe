// Command cluster runs three members in one process, over real gRPC and real
// disk: it sets, gets and deletes, kills the leader, goes on without it, and
// brings it back. Then it serves until Ctrl-C.
//
//	go run ./examples/cluster          # in a temporary directory
//	go run ./examples/cluster -demo    # ends after the demonstration
//	go run ./examples/cluster -dir d   # leaves its data in d
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main but for what belongs to the process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	fs.SetOutput(stderr)
	demoOnly := fs.Bool("demo", false, "end after the demonstration")
	dir := fs.String("dir", "", "leave the data in this new `directory` (default: a temporary one)")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 1
	}
	err := show(ctx, *dir, *demoOnly, stdout)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "cluster: interrupted")
		return 1
	}
	if err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
		return 1
	}
	return 0
}

// show runs the demonstration on a new cluster, and serves on.
func show(ctx context.Context, dir string, demoOnly bool, out io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "replkv-cluster-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if names, _ := os.ReadDir(dir); len(names) > 0 {
		// A cluster keeps its addresses, and the next run has other ports.
		return fmt.Errorf("directory %s is not empty: the demonstration makes a new cluster", dir)
	}
	c, err := startCluster(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := demonstrate(limited, c, out); err != nil || demoOnly {
		return err
	}
	return serveClients(ctx, c, out)
}
