package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/replkv/replkv"
)

// patience bounds what a stop waits for: writes under way and the hand-over of
// leadership, then calls that do not end.
const patience = 5 * time.Second

// listenAndServe takes the port before the directory: a second start of a node
// must not touch the data of the first.
func listenAndServe(ctx context.Context, o options, stdout, stderr io.Writer) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	return serve(ctx, o, l, stdout, stderr)
}

// serve is the life of a node. It owns l, and returns nil if ctx ended it.
func serve(ctx context.Context, o options, l net.Listener, stdout, stderr io.Writer) error {
	defer l.Close()
	db, err := open(o, stderr)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer db.Close() // ends announce, if nothing has yet

	var opts []grpc.ServerOption
	if o.tls != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(o.tls)))
	}
	srv := grpc.NewServer(opts...)
	defer srv.Stop()
	if err := errors.Join(db.RegisterPeer(srv), db.RegisterClient(srv)); err != nil {
		return err
	}
	status := health.NewServer()
	status.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(srv, status)
	reflection.Register(srv)

	served := make(chan error, 1)
	background.Go(func() { served <- srv.Serve(l) })
	background.Go(func() { announce(db, o, status, stdout, stderr) })

	select {
	case <-ctx.Done():
	case <-db.Done(): // nobody closes it but us: it could not go on
		return db.Err()
	case err := <-served:
		return err
	}
	status.Shutdown()
	return stop(db, srv)
}

// open opens the store and makes sure that it is the one that the command line
// means: a directory that has a cluster already keeps it.
func open(o options, stderr io.Writer) (*replkv.DB, error) {
	cfg := replkv.Config{Dir: o.dir, ID: o.id, Addr: o.addr, InitialCluster: o.members, PeerTLS: o.tls, InsecurePeers: o.tls == nil}
	if o.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	}
	db, err := replkv.Open(cfg)
	if err != nil {
		return nil, err
	}
	var have []replkv.Member
	for _, m := range db.Status().Members {
		have = append(have, m.Member)
	}
	if got, want := table(have), table(o.members); got != want {
		return nil, errors.Join(fmt.Errorf("directory %s belongs to the cluster %s, not %s", o.dir, got, want), db.Close())
	}
	return db, nil
}

func table(members []replkv.Member) string {
	var rows []string
	for _, m := range members {
		rows = append(rows, m.ID+"="+m.Addr)
	}
	slices.Sort(rows)
	return strings.Join(rows, ",")
}

// announce waits until the node can serve, and says so: one line, and health.
// While it cannot, it says once why.
func announce(db *replkv.DB, o options, status *health.Server, stdout, stderr io.Writer) {
	for said := false; ; said = true {
		err := db.Ready(context.Background()) // bounded by RequestTimeout
		if err == nil {
			break
		}
		select {
		case <-db.Done():
			return
		default:
		}
		if !said {
			fmt.Fprintln(stderr, "node: waiting:", oneLine(err))
		}
	}
	status.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	fmt.Fprintf(stdout, "node %s is ready at %s, %d member(s), leader %s, data in %s\n", o.id, o.addr, len(o.members), db.Status().LeaderID, o.dir)
}

// stop ends the store first, which ends its streams, then the server. Calls of
// others may last (somebody watches health): they get a moment.
func stop(db *replkv.DB, srv *grpc.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := db.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("stopped with work under way: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.GracefulStop()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		srv.Stop()
		<-done
	}
	return err
}
