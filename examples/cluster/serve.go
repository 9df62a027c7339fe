package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
)

// serveClients offers each member to clients, on a port of its own, until ctx
// ends. (examples/node has peers and clients on one.)
func serveClients(ctx context.Context, c *cluster, out io.Writer) error {
	failed := make(chan error, size)
	var servers []*grpc.Server
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	for i, db := range c.dbs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s := grpc.NewServer()
		servers = append(servers, s)
		if err := db.RegisterClient(s); err != nil {
			return errors.Join(err, l.Close())
		}
		reflection.Register(s)
		go func() { failed <- s.Serve(l) }()
		fmt.Fprintf(out, "member %s serves clients at %s\n", c.table[i].ID, l.Addr())
	}
	fmt.Fprintln(out, "serving until Ctrl-C")
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
