// Package service serves replkv.v1 to clients: KV, Lease, Cluster and TextKV, over
// whatever implements Backend. It translates and validates; what the verbs
// mean is the backend's.
//
// All that comes from the network is checked here, also what the backend
// checks itself. Errors leave through wireerr: a gRPC code, and an ErrorDetail
// with reason, outcome and leader. No message exceeds gRPC's default limit, so
// that it works on a plain grpc.NewServer() with plain clients.
package service

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/internal/service/mount"
	"github.com/replkv/replkv/kv"
)

// Backend is what is served. Its methods are called from many goroutines, with
// the ctx of the RPC; after it is closed they return kv.ErrClosed, which
// clients see as UNAVAILABLE.
type Backend interface {
	kv.KV
	kv.Lessor
	kv.Cluster
	// Compact gives up the history below a revision.
	Compact(ctx context.Context, rev kv.Revision) error
	// Backup writes all data to w.
	Backup(ctx context.Context, w io.Writer, opts ...kv.ReadOption) error
	// Status tells about the member that answers. The result becomes the
	// caller's.
	Status(ctx context.Context) (*replkvv1.StatusResponse, error)
	// ReadMany reads keys linearizably and calls fn with each result in order, until
	// it says false.
	ReadMany(ctx context.Context, keys []string, fn func(kv.Item, error) bool) error
	// OpenSession opens a session that nobody has had before.
	OpenSession(ctx context.Context) (batch.Session, error)
	// Write does a batch, or has done it, and returns a result for each operation.
	// kv.ErrSessionNotFound if there is no such session (any more).
	Write(ctx context.Context, b *batch.Batch) ([]batch.Result, error)
}

// maxMessageBytes is gRPC's default limit of a received message, minus a
// margin for framing.
const maxMessageBytes = 4<<20 - 64<<10

// Register adds the services to s before it serves. A service that is there
// already is kv.ErrAlreadyRegistered, and nothing is added.
func Register(s grpc.ServiceRegistrar, b Backend) error {
	if s == nil || b == nil {
		return fmt.Errorf("%w: Register needs a server and a backend", kv.ErrInvalidArgument)
	}
	if err := mount.Check(s, Names()...); err != nil {
		return err
	}
	replkvv1.RegisterKVServer(s, &kvServer{b: b})
	replkvv1.RegisterLeaseServer(s, &leaseServer{b: b})
	replkvv1.RegisterClusterServer(s, &clusterServer{b: b})
	replkvv1.RegisterTextKVServer(s, &textServer{b: b})
	return nil
}

// Names returns the full names of the services that Register adds.
func Names() []string {
	return []string{
		replkvv1.KV_ServiceDesc.ServiceName,
		replkvv1.Lease_ServiceDesc.ServiceName,
		replkvv1.Cluster_ServiceDesc.ServiceName,
		replkvv1.TextKV_ServiceDesc.ServiceName,
	}
}
