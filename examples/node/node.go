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
	watched, err := listenMetrics(o.metrics)
	if err != nil {
		return err
	}
	defer watched.Close()
	db, err := open(o, stderr)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer db.Close() // ends announce, if nothing has yet
	if err := watched.serve(db); err != nil {
		return err
	}

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
	grpc_health_v1.RegisterHealthServer(srv, status)
	db.ServeHealth(status)     // the services, each by its name
	db.ServeHealth(status, "") // the node as a whole
	reflection.Register(srv)

	served := make(chan error, 1)
	background.Go(func() { served <- srv.Serve(l) })
	background.Go(func() { announce(db, o, watched, stdout, stderr) })

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

// open opens the store. A directory that has a cluster already keeps it, which
// whoever names other members should know.
func open(o options, stderr io.Writer) (*replkv.DB, error) {
	cfg := replkv.Config{Dir: o.dir, ID: o.id, Addr: o.addr, InitialCluster: o.members, Join: o.join, PeerTLS: o.tls, InsecurePeers: o.tls == nil}
	if o.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	}
	db, err := replkv.Open(cfg)
	if err != nil {
		return nil, err
	}
	have := db.Status().Members
	if strange := unknown(o.members, have); len(have) > 0 && strange != "" {
		fmt.Fprintf(stderr, "node: directory %s has a cluster already, without node %s: its members are %s\n", o.dir, strange, table(have))
	}
	return db, nil
}

// unknown returns the id of a member that the table does not have; "" if it
// has all.
func unknown(members []replkv.Member, have []replkv.MemberStatus) string {
	for _, m := range members {
		if !slices.ContainsFunc(have, func(h replkv.MemberStatus) bool { return h.ID == m.ID }) {
			return m.ID
		}
	}
	return ""
}

func table(members []replkv.MemberStatus) string {
	var rows []string
	for _, m := range members {
		rows = append(rows, m.ID+"="+m.Addr)
	}
	slices.Sort(rows)
	return strings.Join(rows, ",")
}

// announce waits until the node can serve, and says so in one line. While it
// cannot, it says once why.
func announce(db *replkv.DB, o options, watched *metricsServer, stdout, stderr io.Writer) {
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
	s := db.Status()
	fmt.Fprintf(stdout, "node %s is ready at %s, %d member(s), leader %s, data in %s%s\n", o.id, o.addr, len(s.Members), s.LeaderID, o.dir, watched)
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
