package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/internal/wireerr"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/peerpb"
)

// call makes one unary RPC to a peer. It ends with ctx, after timeout, or at
// Close, which closes the connection under it.
func (t *Transport) call(ctx context.Context, id, addr string, l lane, timeout time.Duration, rpc func(context.Context, *grpc.ClientConn) error) error {
	p, err := t.peer(id, addr)
	if err != nil {
		return err
	}
	c, err := p.conn(l)
	if err != nil {
		return err
	}
	rctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = rpc(t.outgoing(rctx, id), c.ClientConn)
	switch {
	case err == nil || rctx.Err() == nil:
		p.answered(c)
	case ctx.Err() == nil:
		p.missed(l, c, missesUnary)
	}
	if status.Code(err) == codes.Canceled && rctx.Err() == nil {
		// Nobody canceled: the connection was closed under the call.
		return status.Error(codes.Unavailable, "connection closed")
	}
	return err
}

// raftCall is call for an RPC that raft makes, which has no ctx.
func (t *Transport) raftCall(what string, id raft.ServerID, addr raft.ServerAddress, l lane, timeout time.Duration, rpc func(context.Context, *grpc.ClientConn) error) error {
	if err := t.call(t.ctx, string(id), string(addr), l, timeout, rpc); err != nil {
		return t.raftError(what, id, err)
	}
	return nil
}

// raftError says which RPC to whom failed. The text of the cause is kept: raft
// knows an old peer by it.
func (t *Transport) raftError(what string, id raft.ServerID, err error) error {
	if t.ctx.Err() != nil {
		return raft.ErrTransportShutdown
	}
	return fmt.Errorf("%s to %s: %w", what, id, err)
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.raftCall("RequestVote", id, target, laneControl, t.cfg.Timeouts.Vote, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := pb.NewRaftTransportClient(cc).RequestVote(ctx, encodeVoteRequest(args))
		if err == nil {
			*resp = decodeVoteResponse(m)
		}
		return err
	})
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.raftCall("RequestPreVote", id, target, laneControl, t.cfg.Timeouts.Vote, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := pb.NewRaftTransportClient(cc).RequestPreVote(ctx, encodePreVoteRequest(args))
		if err == nil {
			*resp = decodePreVoteResponse(m)
		}
		return err
	})
}

// TimeoutNow implements raft.Transport.
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.raftCall("TimeoutNow", id, target, laneControl, t.cfg.Timeouts.TimeoutNow, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := pb.NewRaftTransportClient(cc).TimeoutNow(ctx, encodeTimeoutNowRequest(args))
		if err == nil {
			*resp = decodeTimeoutNowResponse(m)
		}
		return err
	})
}

// Confirm asks a member for its current term and whether it is a voter. The
// request is sent after the call, never answered from memory: a read batch may
// count the answer if it closed before the call.
func (t *Transport) Confirm(ctx context.Context, id, addr string, term uint64) (currentTerm uint64, voter bool, err error) {
	err = t.call(ctx, id, addr, laneControl, t.cfg.Timeouts.Confirm, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := peerpb.NewPeerClient(cc).Confirm(ctx, &peerpb.ConfirmRequest{Term: term})
		currentTerm, voter = m.GetTerm(), m.GetVoter()
		return err
	})
	return currentTerm, voter, peerError(err)
}

// ReadIndex asks the leader for a read index, and the term of its confirmation.
func (t *Transport) ReadIndex(ctx context.Context, id, addr string) (index, term uint64, err error) {
	over := false
	err = t.call(ctx, id, addr, laneControl, t.cfg.Timeouts.Request, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := peerpb.NewPeerClient(cc).ReadIndex(ctx, &peerpb.ReadIndexRequest{})
		index, term, over = m.GetIndex(), m.GetTerm(), m.GetOverQuota()
		return err
	})
	if err == nil {
		t.cfg.HearQuota(over)
	}
	return index, term, peerError(err)
}

// Forward hands a batch to the leader. Unless the error says otherwise
// (kv.OutcomeOf), its outcome is unknown; the same bytes may be sent again.
// It uses the log lane, so that batches do not delay heartbeats; a member is
// follower or leader of another, so they do not meet appends there.
func (t *Transport) Forward(ctx context.Context, id, addr string, batch []byte) (result []byte, index uint64, err error) {
	if len(batch) > MaxMessageBytes {
		return nil, 0, &kv.Error{Outcome: kv.OutcomeNotDone, Err: fmt.Errorf("%w: a batch of %d bytes (at most %d)", kv.ErrTooLarge, len(batch), MaxMessageBytes)}
	}
	over := false
	err = t.call(ctx, id, addr, laneLog, t.cfg.Timeouts.Request, func(ctx context.Context, cc *grpc.ClientConn) error {
		m, err := peerpb.NewPeerClient(cc).Forward(ctx, &peerpb.ForwardRequest{Batch: batch})
		result, index, over = m.GetResult(), m.GetIndex(), m.GetOverQuota()
		return err
	})
	if err == nil {
		t.cfg.HearQuota(over)
	}
	return result, index, peerError(err)
}

// peerError restores the kv error that the other member answered.
func peerError(err error) error {
	if err == raft.ErrTransportShutdown { // from before the RPC left
		return &kv.Error{Outcome: kv.OutcomeNotDone, Err: kv.ErrClosed}
	}
	if _, ok := errors.AsType[*AnswerError](err); ok {
		return err // it is not what the other member answered
	}
	return wireerr.FromStatus(err)
}
