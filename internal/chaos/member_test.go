//go:build linux

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// Why a member ended by itself. A fault explains some of them.
const (
	endFull    = "full"    // ENOSPC
	endIO      = "io"      // EIO
	endStalled = "stalled" // a write took longer than WriteDeadline
	endOther   = "other"   // nothing explains it
)

// endedMark begins the line that says so, in a member's log.
const endedMark = "MEMBER ENDED: "

// member is the life of a member's process. It returns the exit code: 0 if
// SIGTERM ended it.
func member(args []string) int {
	fs := flag.NewFlagSet("member", flag.ContinueOnError)
	id := fs.String("id", "", "")
	peers := fs.String("peers", "", "all members, id=host:port, separated by commas")
	dir := fs.String("dir", "", "data directory")
	lie := fs.Bool("lie", false, "the raft log's disk acknowledges what it has not synced")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	cfg := replkv.Config{Dir: *dir, ID: *id, InsecurePeers: true, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		ElectionTimeout: electionTimeout, RequestTimeout: 3 * time.Second, WriteDeadline: writeDeadline,
		SnapshotLogBytes: 256 << 10, TrailingLogBytes: 64 << 10, CacheBytes: 8 << 20, SnapshotRateBytes: -1, HistoryAge: 2 * time.Minute}
	for _, p := range strings.Split(*peers, ",") {
		id, addr, _ := strings.Cut(p, "=")
		cfg.InitialCluster = append(cfg.InitialCluster, replkv.Member{ID: id, Addr: addr})
		if id == cfg.ID {
			cfg.Addr = addr
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := serve(ctx, cfg, *lie)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s%s: %q\n", endedMark, class(err), err)
	return 1
}

func class(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return endFull
	case errors.Is(err, syscall.EIO):
		return endIO
	case errors.Is(err, raftlog.ErrStalled):
		return endStalled
	}
	return endOther
}

func serve(ctx context.Context, cfg replkv.Config, lie bool) error {
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return err
	}
	db, err := openMember(cfg, lie)
	if err != nil {
		l.Close()
		return err
	}
	defer db.Close()
	srv := grpc.NewServer()
	defer srv.Stop()
	if err := errors.Join(db.RegisterPeer(srv), db.RegisterClient(srv)); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
		return nil
	case <-db.Done():
		return db.Err()
	case err := <-served:
		return err
	}
}

// openMember opens the store; with lie on a disk whose syncs of the raft log do
// nothing, which a power loss must bring to light.
func openMember(cfg replkv.Config, lie bool) (*replkv.DB, error) {
	if !lie {
		return replkv.Open(cfg)
	}
	fs := faultfs.New(disk.Default)
	fs.SetFault(faultfs.Fail(faultfs.ErrSkip, faultfs.Of(faultfs.Sync, "/log/")))
	db, err := hook.Open(cfg, hook.Edges{FS: fs})
	if err != nil {
		return nil, err
	}
	return db.(*replkv.DB), nil
}
