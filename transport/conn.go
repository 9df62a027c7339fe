package transport

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
)

// A conn is a ClientConn whose Close is quick. gRPC's own waits up to five
// seconds to say goodbye over a connection that takes no bytes, which is just
// when connections are given up; so the connection below is closed first.
type conn struct {
	*grpc.ClientConn
	misses int // deadlines missed in a row; guarded by peer.mu

	mu struct {
		sync.Mutex
		closed bool
		raw    map[*rawConn]struct{} // open connections: one, or two while one replaces another
	}
}

func newConn(addr string, dial func(context.Context, string) (net.Conn, error), opts []grpc.DialOption) (c *conn, err error) {
	c = &conn{}
	c.mu.raw = make(map[*rawConn]struct{})
	opts = append([]grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		raw, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return c.track(raw)
	})}, opts...)
	c.ClientConn, err = grpc.NewClient("passthrough:///"+addr, opts...)
	return c, err
}

func (c *conn) track(raw net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	r := &rawConn{Conn: raw, owner: c}
	c.mu.raw[r] = struct{}{}
	return r, nil
}

// Close ends all RPCs on the connection. It is idempotent.
func (c *conn) Close() {
	c.mu.Lock()
	c.mu.closed = true
	raw := c.mu.raw
	c.mu.raw = nil
	c.mu.Unlock()
	for r := range raw {
		_ = r.Conn.Close()
	}
	_ = c.ClientConn.Close() // the only error is that it was closed before
}

// rawConn forgets itself when gRPC closes it.
type rawConn struct {
	net.Conn
	owner *conn
}

func (r *rawConn) Close() error {
	r.owner.mu.Lock()
	delete(r.owner.mu.raw, r)
	r.owner.mu.Unlock()
	return r.Conn.Close()
}
