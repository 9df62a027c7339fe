package sim

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"

	remote "github.com/replkv/replkv/client"
	"github.com/replkv/replkv/concurrency"
)

// remotes are the clients without a member of their own, and the servers that members
// have for them.
type remotes struct {
	r       *run
	servers map[int]*grpc.Server // by member; of its newest start
	clients []*remote.Client
}

// maxServers bounds the members that clients know: those that were first, and some that
// joined.
const maxServers = 12

func serverAddr(i int) string { return fmt.Sprintf("m%d:2", i) }

// serve mounts the service for clients beside member i, which has just opened. The
// server before it lost its listener with the host.
func (m *remotes) serve(i int) error {
	m.stop(i)
	l, err := m.r.c.Net.Listen(serverAddr(i))
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	if err := m.r.c.DB(i).RegisterClient(s); err != nil {
		return errors.Join(err, l.Close())
	}
	m.servers[i] = s
	go func() { _ = s.Serve(l) }() // until Stop
	return nil
}

func (m *remotes) stop(i int) {
	if s := m.servers[i]; s != nil {
		s.Stop()
		delete(m.servers, i)
	}
}

// dial makes a client on a host of its own.
func (m *remotes) dial() (concurrency.Store, error) {
	host := fmt.Sprintf("client%d", len(m.clients))
	for i := range maxServers {
		m.r.c.Net.Delay(host, fmt.Sprintf("m%d", i), m.r.plan.delay/2)
		m.r.c.Net.Delay(fmt.Sprintf("m%d", i), host, m.r.plan.delay/2)
	}
	dial := m.r.c.Net.Dialer(host)
	cfg := remote.Config{Insecure: true, RequestTimeout: m.r.plan.request, DialOptions: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr) })}}
	for i := range maxServers {
		cfg.Endpoints = append(cfg.Endpoints, "passthrough:///"+serverAddr(i))
	}
	c, err := remote.Dial(cfg)
	if err != nil {
		return nil, err
	}
	m.clients = append(m.clients, c)
	return c, nil
}

func (m *remotes) close() error {
	var errs []error
	for _, c := range m.clients {
		errs = append(errs, c.Close())
	}
	for i := range m.r.c.Members {
		m.stop(i)
	}
	return errors.Join(errs...)
}
