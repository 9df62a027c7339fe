package transport

import (
	"context"
	"errors"
	"io"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// streamAge is when an append stream is closed by its client; a server ends it
// at serverStreamAge. A server's GracefulStop waits for open streams, so none
// may live long.
const streamAge = 8 * time.Second

// An appendStream is Jille's AppendEntriesPipeline used for one request at a
// time: a stream costs less per message than a unary RPC.
//
// Invariant: it is either in peer.mu.stream or owned by one goroutine.
type appendStream struct {
	conn     *conn
	rpc      pb.RaftTransport_AppendEntriesPipelineClient
	ctx      context.Context
	cancel   context.CancelCauseFunc
	deadline *time.Timer // runs during a round trip; cancels the stream with errDeadline
	expiry   *time.Timer // closes the stream at streamAge if it is idle then
	born     time.Time
	checked  bool // the answers are the right member's
}

var errDeadline = status.Error(codes.DeadlineExceeded, "the peer did not answer in time")

// append sends one request and waits for its answer. A stream used before may
// have been ended by the server meanwhile (age, GracefulStop, restart): then the
// request goes over a new one, which is safe, as raft takes an append twice.
func (p *peer) append(req *pb.AppendEntriesRequest) (*pb.AppendEntriesResponse, error) {
	if st := p.takeStream(); st != nil {
		resp, err := p.roundTrip(st, req)
		if err == nil || errors.Is(err, errDeadline) || p.t.ctx.Err() != nil {
			return resp, err
		}
	}
	st, err := p.openStream()
	if err != nil {
		return nil, err
	}
	return p.roundTrip(st, req)
}

func (p *peer) openStream() (*appendStream, error) {
	c, err := p.conn(laneLog)
	if err != nil {
		return nil, err
	}
	st := &appendStream{conn: c, born: time.Now()}
	st.ctx, st.cancel = context.WithCancelCause(p.t.ctx)
	st.deadline = time.AfterFunc(p.t.cfg.Timeouts.Append, func() { st.cancel(errDeadline) })
	st.rpc, err = pb.NewRaftTransportClient(c).AppendEntriesPipeline(p.t.outgoing(st.ctx, p.id))
	if err != nil {
		return nil, p.failStream(st, err)
	}
	p.ahead.forget()
	st.expiry = time.AfterFunc(streamAge, func() { p.expireStream(st) })
	return st, nil
}

// roundTrip owns st; it gives it back, or closes it.
func (p *peer) roundTrip(st *appendStream, req *pb.AppendEntriesRequest) (*pb.AppendEntriesResponse, error) {
	st.deadline.Reset(p.t.cfg.Timeouts.Append)
	err := st.rpc.Send(prompt(req))
	var resp *pb.AppendEntriesResponse
	if err == nil || err == io.EOF { // EOF: the reason is with Recv
		resp, err = st.rpc.Recv()
	}
	if err == nil && !st.checked {
		if err = p.checkStream(st.rpc.Header()); err == nil {
			st.checked = true
		}
	}
	if err == io.EOF {
		err = status.Error(codes.Unavailable, "the peer ended the stream")
	}
	if err != nil {
		return nil, p.failStream(st, err)
	}
	p.answered(st.conn)
	if st.deadline.Stop() {
		p.putStream(st)
	} else { // answered at the last moment; the stream is canceled
		st.close()
	}
	return resp, nil
}

// checkStream is checkAnswer for the header of a stream.
func (p *peer) checkStream(header metadata.MD, err error) error {
	if err != nil {
		return err
	}
	return p.t.checkAnswer(p.id, header)
}

// failStream closes a stream and returns why it failed.
func (p *peer) failStream(st *appendStream, err error) error {
	st.close()
	switch cause := context.Cause(st.ctx); {
	case p.t.ctx.Err() != nil:
		return context.Cause(p.t.ctx)
	case cause == errDeadline:
		p.missed(laneLog, st.conn, missesStream)
		return errDeadline
	}
	return err
}

// close frees the stream. The first cause of a cancel stays.
func (st *appendStream) close() {
	st.deadline.Stop()
	if st.expiry != nil {
		st.expiry.Stop()
	}
	st.cancel(context.Canceled)
}

// takeStream returns the idle stream, or nil.
func (p *peer) takeStream() *appendStream {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.mu.stream
	p.mu.stream = nil
	return st
}

// putStream keeps st for the next request, unless it is old, its connection was
// replaced, or another one is kept already.
func (p *peer) putStream(st *appendStream) {
	p.mu.Lock()
	keep := !p.mu.closed && p.mu.stream == nil && p.mu.conns[laneLog] == st.conn && time.Since(st.born) < streamAge
	if keep {
		p.mu.stream = st
	}
	p.mu.Unlock()
	if !keep {
		st.close()
	}
}

// expireStream closes st if it is idle; in use, putStream sees its age.
func (p *peer) expireStream(st *appendStream) {
	p.mu.Lock()
	idle := p.mu.stream == st
	if idle {
		p.mu.stream = nil
	}
	p.mu.Unlock()
	if idle {
		st.close()
	}
}
