package transport

import (
	"context"
	"sync/atomic"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serverStreamAge is when a server ends an append stream, between two messages:
// a GracefulStop of the server waits for streams, and an idle one would hold it
// up for ever.
const serverStreamAge = 10 * time.Second

var errStreamAge = status.Error(codes.Unavailable, "the stream has reached its age; open another")

// The states of a served stream. Only an idle stream is ended by age, so no
// request that raft has seen goes without an answer; a request that arrives
// later is not handed to raft, and the client sends it again.
const (
	streamIdle  int32 = iota // waiting for a message
	streamBusy               // a message is being served
	streamEnded              // no message is served any more
)

type servedStream struct {
	t     *Transport
	from  Identity
	rpc   pb.RaftTransport_AppendEntriesPipelineServer
	state atomic.Int32
	old   atomic.Bool // end after the message being served
	done  chan error  // the loop's error; buffered
}

// AppendEntriesPipeline serves messages one after the other. The loop runs on a
// goroutine of its own, because only the handler's return ends its Recv.
func (s raftServer) AppendEntriesPipeline(rpc pb.RaftTransport_AppendEntriesPipelineServer) error {
	id, err := s.t.admit(rpc.Context())
	if err != nil {
		return err
	}
	ctx, cancel := s.t.bound(rpc.Context())
	defer cancel(context.Canceled)
	st := &servedStream{t: s.t, from: id, rpc: rpc, done: make(chan error, 1)}
	go func() { st.done <- st.loop(ctx) }()
	age := time.NewTimer(serverStreamAge)
	defer age.Stop()
	select {
	case err := <-st.done:
		return err
	case <-age.C:
		return st.end(errStreamAge)
	case <-ctx.Done():
		return st.end(s.t.ended(ctx))
	}
}

// end makes the handler return: at once if the loop waits for a message, else
// when it has served the present one, which ends with ctx. The stream must not
// be used after the handler's return.
func (st *servedStream) end(why error) error {
	st.old.Store(true)
	if st.state.CompareAndSwap(streamIdle, streamEnded) {
		return why
	}
	if err := <-st.done; err != nil {
		return err
	}
	return why
}

func (st *servedStream) loop(ctx context.Context) error {
	for {
		m, err := st.rpc.Recv()
		if err != nil {
			return nil // the client's half is closed, or the RPC is over: nothing more to say
		}
		if !st.state.CompareAndSwap(streamIdle, streamBusy) {
			return errStreamAge
		}
		resp, err := st.t.appendEntries(ctx, st.from, m)
		if err != nil {
			return err
		}
		if err := st.rpc.Send(prompt(resp)); err != nil {
			return err
		}
		st.state.Store(streamIdle)
		if st.old.Load() && st.state.CompareAndSwap(streamIdle, streamEnded) {
			return errStreamAge
		}
	}
}
