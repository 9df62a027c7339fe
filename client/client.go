package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv/internal/optimistic"
	"github.com/replkv/replkv/kv"
)

// Client is a connection to a store. Its methods may be called from any
// goroutine.
type Client struct {
	endpoints []*endpoint
	timeout   time.Duration

	current atomic.Int64 // index of the endpoint that answered last
	closed  atomic.Bool
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	writes  writer
	reads   reader
	queues  optimistic.Turns // of Updates
}

var (
	_ kv.KV      = (*Client)(nil)
	_ kv.Lessor  = (*Client)(nil)
	_ kv.Cluster = (*Client)(nil)
)

// Dial returns a client. It checks cfg (kv.ErrInvalidConfig) and connects to
// nobody yet: the first call does. Close the client after use.
func Dial(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{timeout: cfg.RequestTimeout}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.writes.init(c)
	c.reads.c = c
	opts := cfg.dialOptions()
	for _, addr := range cfg.Endpoints {
		e, err := newEndpoint(addr, opts)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: endpoint %q: %w", kv.ErrInvalidConfig, addr, err), c.Close())
		}
		c.endpoints = append(c.endpoints, e)
	}
	return c, nil
}

// Close ends the connections. Calls under way fail with kv.ErrClosed; a write
// among them that was sent has an unknown outcome. It may be called again.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.writes.close()
	c.reads.close()
	c.cancel()
	var errs []error
	for _, e := range c.endpoints {
		errs = append(errs, e.conn.Close())
	}
	c.writes.wg.Wait()
	c.reads.wg.Wait()
	return errors.Join(errs...)
}

// errTimeout is the cause of a ctx that ends by RequestTimeout.
var errTimeout = errors.New("request timed out")

// deadline gives a ctx without deadline that of RequestTimeout.
func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}
