package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
)

// connectPatience is how long an endpoint may take to connect before the next
// one gets its turn.
const connectPatience = 2 * time.Second

// endpoint is one member's server.
type endpoint struct {
	addr string
	conn *grpc.ClientConn
	rpc  services
}

// services are the clients of what an endpoint serves.
type services struct {
	replkvv1.KVClient
	replkvv1.LeaseClient
	replkvv1.ClusterClient
}

func newEndpoint(addr string, opts []grpc.DialOption) (*endpoint, error) {
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		return nil, err
	}
	return &endpoint{addr: addr, conn: conn, rpc: services{replkvv1.NewKVClient(conn), replkvv1.NewLeaseClient(conn), replkvv1.NewClusterClient(conn)}}, nil
}

// errUnreachable says that no connection came about; nothing was sent.
var errUnreachable = errors.New("cannot be reached")

// failed says whether the newest attempt to connect failed.
func (e *endpoint) failed() bool { return e.conn.GetState() == connectivity.TransientFailure }

// connect waits until there is a connection, at most for patience. It tells
// what cannot be told from an RPC's error: that nothing was sent, and which
// member is slow to connect.
func (e *endpoint) connect(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if e.failed() {
		e.conn.ResetConnectBackoff() // try at once; the state stays until that succeeds
		e.conn.WaitForStateChange(ctx, connectivity.TransientFailure)
	}
	for {
		state := e.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errUnreachable
		case connectivity.Idle:
			e.conn.Connect()
		}
		if !e.conn.WaitForStateChange(ctx, state) {
			return errUnreachable
		}
	}
}

// call is one RPC. It passes opts on to the generated client.
type call func(ctx context.Context, s services, opts ...grpc.CallOption) error

// try makes the RPC and restores its error. What never got a stream was not
// sent, and so not done; gRPC itself sends again what the server says it never
// looked at.
func (e *endpoint) try(ctx context.Context, fn call) *kv.Error {
	var sentTo peer.Peer
	err := fn(ctx, e.rpc, grpc.Peer(&sentTo))
	if err == nil {
		return nil
	}
	out := *wireerr.FromStatus(err).(*kv.Error) // always one
	if sentTo.Addr == nil {
		out.Outcome = kv.OutcomeNotDone
	}
	return &out
}
