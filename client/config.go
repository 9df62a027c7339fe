package client

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replkv/replkv/kv"
)

// Config says where the store is and how to get there. Dial copies it.
type Config struct {
	// Endpoints are host:port addresses of members, or any targets that gRPC
	// understands. At least one is required; with all members listed the
	// client survives what the cluster survives.
	Endpoints []string
	// TLS secures the connections. The server's name defaults to the
	// endpoint's host.
	TLS *tls.Config
	// Insecure sends everything in the clear. Exactly one of TLS and Insecure
	// is required.
	Insecure bool
	// RequestTimeout is the deadline of calls whose ctx has none, and of each
	// wait of a Scan for items. The default is 10 s: an election takes a few. More than a
	// year is a year.
	RequestTimeout time.Duration
	// DialOptions are added to the client's own, for credentials per call,
	// interceptors, or a dialer. Retries by gRPC are off whatever they say: the
	// client makes them, where they are safe.
	DialOptions []grpc.DialOption
}

// maxTimeout bounds RequestTimeout: with the longest that a Duration can hold, what is
// longer still would be over at once.
const maxTimeout = 365 * 24 * time.Hour

func (c Config) withDefaults() (Config, error) {
	switch {
	case len(c.Endpoints) == 0:
		return c, fmt.Errorf("%w: Endpoints is empty", kv.ErrInvalidConfig)
	case slices.Contains(c.Endpoints, ""):
		return c, fmt.Errorf("%w: an endpoint is empty", kv.ErrInvalidConfig)
	case c.TLS != nil && c.Insecure:
		return c, fmt.Errorf("%w: both TLS and Insecure are set", kv.ErrInvalidConfig)
	case c.TLS == nil && !c.Insecure:
		return c, fmt.Errorf("%w: neither TLS nor Insecure is set; Insecure sends everything in the clear", kv.ErrInvalidConfig)
	case c.RequestTimeout < 0:
		return c, fmt.Errorf("%w: RequestTimeout %v", kv.ErrInvalidConfig, c.RequestTimeout)
	case c.RequestTimeout == 0:
		c.RequestTimeout = 10 * time.Second
	}
	c.RequestTimeout = min(c.RequestTimeout, maxTimeout)
	c.Endpoints = slices.Clone(c.Endpoints)
	return c, nil
}

func (c *Config) dialOptions() []grpc.DialOption {
	creds := insecure.NewCredentials()
	if c.TLS != nil {
		creds = credentials.NewTLS(c.TLS) // clones it
	}
	// gRPC's default waits up to 2 minutes before it tries a server again that
	// was away.
	connect := grpc.ConnectParams{MinConnectTimeout: connectPatience,
		Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithConnectParams(connect)}
	opts = append(opts, c.DialOptions...)
	return append(opts, grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
}
