// Command node is one member of a replicated key-value store: it serves its
// peers and its clients on one port.
//
//	go run ./examples/node 1 127.0.0.1:50052,127.0.0.1:50053
//	go run ./examples/node 2 127.0.0.1:50051,127.0.0.1:50053
//	go run ./examples/node 3 127.0.0.1:50051,127.0.0.1:50052
//
// Node i serves on 127.0.0.1:(50050+i) and keeps its data in
// replkv-data/node-i. With no peers it is a store of a single member. A fourth
// joins the three while they run, and a node may come back at another address:
//
//	go run ./examples/node -join 127.0.0.1:50051 4
//	go run ./examples/node -addr 127.0.0.1:6003 -join 127.0.0.1:50051 3
//
// Clients speak the gRPC service replkv.v1, of which reflection tells:
//
//	grpcurl -plaintext -d '{"key":"username","value":"admin"}' 127.0.0.1:50051 replkv.v1.TextKV/Set
//	grpcurl -plaintext -d '{"key":"username"}' 127.0.0.1:50052 replkv.v1.TextKV/Get
//	grpcurl -plaintext -d '{"id":"4"}' 127.0.0.1:50051 replkv.v1.Cluster/Remove
//
// A node whose store cannot go on, because it was removed or its disk failed,
// says so in one line and exits with status 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main but for what belongs to the process. It serves until ctx ends and
// returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, opts.usage)
		return 0
	}
	if err == nil {
		err = listenAndServe(ctx, opts, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "node:", oneLine(err))
		return 1
	}
	return 0
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
