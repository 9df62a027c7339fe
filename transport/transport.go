package transport

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Transport is a raft.Transport over gRPC. Make it with New, register it on a
// gRPC server, give it to raft.NewRaft, and Close it. All methods may be called
// at once from many goroutines.
type Transport struct {
	cfg Config

	// self is what goes with every RPC and answer; replaced under mu.
	self atomic.Pointer[self]
	// parsed has the identities that came lately, by their encoding; about
	// parsedCount of them.
	parsed      sync.Map
	parsedCount atomic.Int32

	// rpcs is raft's Consumer. It is unbuffered: an RPC is either taken by raft
	// or still owned by its handler, which leaves when its sender has.
	rpcs chan raft.RPC

	// ctx ends at Close, and with it every RPC, in and out.
	ctx  context.Context
	stop context.CancelCauseFunc

	mu struct {
		sync.Mutex                  // never held across an RPC
		closed     bool             // no peer is added any more
		peers      map[string]*peer // by member id
	}
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// New returns a transport. It dials nobody and starts no goroutine.
func New(cfg Config) (*Transport, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, rpcs: make(chan raft.RPC)}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	t.self.Store(newSelf(Identity{Cluster: cfg.Cluster, Group: cfg.Group, From: cfg.ID, Addr: cfg.Addr,
		Incarnation: cfg.Incarnation, Since: cfg.Since, Starts: cfg.Starts}))
	t.mu.peers = make(map[string]*peer)
	return t, nil
}

// Consumer returns the channel on which raft receives RPCs.
func (t *Transport) Consumer() <-chan raft.RPC { return t.rpcs }

// LocalAddr returns Config.Addr.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.cfg.Addr) }

// EncodePeer returns addr, as Jille's transport does.
func (t *Transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer is the inverse of EncodePeer.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler does nothing: raft's heartbeat handler runs beside its
// main loop, where it can set the term back (hashicorp/raft#695). Heartbeats go
// through Consumer, so raft's timeouts must exceed the worst fsync.
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline is not supported: raft's pipelining can deadlock
// (hashicorp/raft#611, #612). Throughput comes from coalescing entries.
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// Close ends all outgoing RPCs and connections; handlers answer UNAVAILABLE
// from now on and end their streams. It does not wait for handlers, which
// belong to the server. It is idempotent.
func (t *Transport) Close() error {
	t.stop(raft.ErrTransportShutdown)
	t.mu.Lock()
	t.mu.closed = true
	peers := t.mu.peers
	t.mu.peers = nil
	t.mu.Unlock()
	for _, p := range peers {
		p.close()
	}
	return nil
}
