package main

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
)

// readRounds counts the RPCs by which one member asks the leader for a read
// index.
type readRounds struct {
	sent     atomic.Int64
	inFlight atomic.Int64
	most     atomic.Int64 // in flight at a time
}

// option counts on connections to peers.
func (r *readRounds) option() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if strings.HasSuffix(method, "/ReadIndex") {
			r.sent.Add(1)
			n := r.inFlight.Add(1)
			defer r.inFlight.Add(-1)
			for most := r.most.Load(); n > most && !r.most.CompareAndSwap(most, n); most = r.most.Load() {
			}
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
}

// Observe counts read-index RPCs and rounds, and how the leader joined writes,
// including the warm-up.
func (c *cluster) Observe() func() map[string]float64 {
	before := c.dbs[0].Metrics()
	var sent int64
	for _, r := range c.rounds {
		sent -= r.sent.Load()
		r.most.Store(0)
	}
	return func() map[string]float64 {
		after := c.dbs[0].Metrics()
		var most int64
		for _, r := range c.rounds {
			sent += r.sent.Load()
			most = max(most, r.most.Load())
		}
		out := map[string]float64{"read_index_rpcs": float64(sent), "read_index_rpcs_in_flight": float64(most),
			"leader_read_rounds": float64(after.ReadRounds - before.ReadRounds), "leader_entries": float64(after.Entries - before.Entries)}
		if n := after.Entries - before.Entries; n > 0 {
			out["leader_writes_per_entry"] = float64(after.Writes-before.Writes) / float64(n)
		}
		return out
	}
}
