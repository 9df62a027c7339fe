package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replkv/replkv/internal/service"
	"github.com/replkv/replkv/internal/service/kvtest"
)

// world is a network of servers in memory, by name.
type world struct {
	mu        sync.Mutex // protects the field below
	listeners map[string]*bufconn.Listener
}

func newWorld() *world { return &world{listeners: map[string]*bufconn.Listener{}} }

var errRefused = errors.New("connection refused")

// dial connects to the server of that name. "hole" never answers.
func (w *world) dial(ctx context.Context, name string) (net.Conn, error) {
	if name == "hole" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w.mu.Lock()
	l := w.listeners[name]
	w.mu.Unlock()
	if l == nil {
		return nil, errRefused
	}
	return l.DialContext(ctx)
}

// serve starts a server of that name and returns what stops it at once.
func (w *world) serve(t *testing.T, name string, b service.Backend, opts ...grpc.ServerOption) (stop func()) {
	t.Helper()
	srv := grpc.NewServer(opts...)
	if b != nil {
		if err := service.Register(srv, b); err != nil {
			t.Fatal(err)
		}
	}
	l := bufconn.Listen(1 << 20)
	w.mu.Lock()
	w.listeners[name] = l
	w.mu.Unlock()
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			w.mu.Lock()
			if w.listeners[name] == l {
				delete(w.listeners, name)
			}
			w.mu.Unlock()
			srv.Stop()
			<-served
		})
	}
	t.Cleanup(stop)
	return stop
}

// client returns a client of the named servers; cfg may add to it.
func (w *world) client(t *testing.T, cfg Config, names ...string) *Client {
	t.Helper()
	for _, n := range names {
		cfg.Endpoints = append(cfg.Endpoints, "passthrough:///"+n)
	}
	cfg.Insecure = cfg.TLS == nil
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithContextDialer(w.dial))
	c, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// one returns a client of one server over a new fake.
func one(t *testing.T, cfg Config) (*Client, *kvtest.Fake) {
	t.Helper()
	w, f := newWorld(), kvtest.NewFake()
	w.serve(t, "a", f)
	return w.client(t, cfg, "a"), f
}
