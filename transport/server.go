package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// raftServer serves Jille's RaftTransport: each handler admits the peer, checks
// the message, and hands it to raft.
type raftServer struct {
	pb.UnimplementedRaftTransportServer
	t *Transport
}

func (s raftServer) AppendEntries(ctx context.Context, m *pb.AppendEntriesRequest) (*pb.AppendEntriesResponse, error) {
	id, err := s.t.admit(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.t.bound(ctx)
	defer cancel(context.Canceled)
	return s.t.appendEntries(ctx, id, m)
}

func (s raftServer) RequestVote(ctx context.Context, m *pb.RequestVoteRequest) (*pb.RequestVoteResponse, error) {
	resp, err := serve[*raft.RequestVoteResponse](ctx, s.t, m, m.GetLastLogIndex(), validVote)
	if err != nil {
		return nil, err
	}
	return encodeVoteResponse(resp), nil
}

func (s raftServer) RequestPreVote(ctx context.Context, m *pb.RequestPreVoteRequest) (*pb.RequestPreVoteResponse, error) {
	resp, err := serve[*raft.RequestPreVoteResponse](ctx, s.t, m, m.GetLastLogIndex(), validPreVote)
	if err != nil {
		return nil, err
	}
	return encodePreVoteResponse(resp), nil
}

func (s raftServer) TimeoutNow(ctx context.Context, m *pb.TimeoutNowRequest) (*pb.TimeoutNowResponse, error) {
	resp, err := serve[*raft.TimeoutNowResponse](ctx, s.t, m, 0, validTimeoutNow)
	if err != nil {
		return nil, err
	}
	return encodeTimeoutNowResponse(resp), nil
}

// votes decides whether a request that may make this member vote or campaign
// reaches raft.
func (t *Transport) votes(lastLogIndex uint64) error {
	if t.cfg.CheckVote == nil {
		return nil
	}
	if err := t.cfg.CheckVote(lastLogIndex); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return nil
}

// serve is the way of a request to vote or campaign: admit, check, hand on.
func serve[Resp, Msg, Cmd any](ctx context.Context, t *Transport, m Msg, lastLogIndex uint64, valid func(Identity, Msg) (Cmd, error)) (resp Resp, err error) {
	id, err := t.admit(ctx)
	if err == nil {
		err = t.votes(lastLogIndex)
	}
	if err != nil {
		return resp, err
	}
	cmd, err := valid(id, m)
	if err != nil {
		return resp, err
	}
	ctx, cancel := t.bound(ctx)
	defer cancel(context.Canceled)
	return submit[Resp](ctx, t, cmd, nil)
}

// appendEntries serves one AppendEntries, unary or of a stream.
func (t *Transport) appendEntries(ctx context.Context, id Identity, m *pb.AppendEntriesRequest) (*pb.AppendEntriesResponse, error) {
	cmd, err := validAppend(id, m)
	if err != nil {
		return nil, err
	}
	if len(cmd.Entries) > 0 {
		if err := t.holdBack(ctx); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	resp, err := submit[*raft.AppendEntriesResponse](ctx, t, cmd, nil)
	if err != nil {
		return nil, err
	}
	// What the leader has a quorum for without us we only lag behind with.
	if last, _ := lastOf(cmd); len(cmd.Entries) > 0 && resp.Success && last > cmd.LeaderCommitIndex {
		t.pace(ctx, time.Since(began))
	}
	return encodeAppendResponse(resp), nil
}

// pace holds back an answer. If ctx ends meanwhile it is given at once: it is true.
func (t *Transport) pace(ctx context.Context, took time.Duration) {
	if t.cfg.Pace == nil {
		return
	}
	d := t.cfg.Pace(took)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// holdBackPoll is how often Config.Unapplied is asked while it is too high.
const holdBackPoll = 5 * time.Millisecond

// holdBack waits while too much is received and not applied: raft's own queue
// to the state machine is bounded by count only. The leader slows down with us.
func (t *Transport) holdBack(ctx context.Context) error {
	if t.cfg.Unapplied == nil || t.cfg.Unapplied() <= UnappliedLimit {
		return nil
	}
	tick := time.NewTicker(holdBackPoll)
	defer tick.Stop()
	for t.cfg.Unapplied() > UnappliedLimit {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t.ended(ctx)
		}
	}
	return nil
}

// submit hands a command to raft and waits for its response, as long as ctx
// lasts: what raft has not taken by then it will never see.
func submit[Resp any](ctx context.Context, t *Transport, cmd any, r io.Reader) (resp Resp, err error) {
	if ctx.Err() != nil { // select would choose either way
		return resp, t.ended(ctx)
	}
	answer := make(chan raft.RPCResponse, 1) // raft never waits for us
	select {
	case t.rpcs <- raft.RPC{Command: cmd, Reader: r, RespChan: answer}:
	case <-ctx.Done():
		return resp, t.ended(ctx)
	}
	select {
	case a := <-answer:
		if a.Error != nil {
			return resp, raftStatus(a.Error)
		}
		resp, ok := a.Response.(Resp)
		if !ok {
			return resp, status.Errorf(codes.Internal, "raft answered with %T", a.Response)
		}
		return resp, nil
	case <-ctx.Done():
		return resp, t.ended(ctx)
	}
}

// raftStatus is the status of an error that raft answered with.
func raftStatus(err error) error {
	switch {
	case errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrTransportShutdown):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, ErrCovered):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, raft.ErrUnsupportedProtocol):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

// bound returns a ctx that ends with the RPC's and at Close.
func (t *Transport) bound(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(t.ctx, func() { cancel(raft.ErrTransportShutdown) })
	return ctx, func(cause error) {
		unhook()
		cancel(cause)
	}
}

// ended is the answer to an RPC whose ctx, made by bound, is done.
func (t *Transport) ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if t.ctx.Err() != nil {
		return errClosed()
	}
	if _, ok := status.FromError(cause); ok {
		return cause
	}
	return status.FromContextError(cause).Err()
}

// peerServer serves the Peer service through Config.Handler.
type peerServer struct {
	peerpb.UnimplementedPeerServer
	t *Transport
}

func (s peerServer) Confirm(ctx context.Context, m *peerpb.ConfirmRequest) (resp *peerpb.ConfirmResponse, err error) {
	err = s.handle(ctx, func(ctx context.Context, h Handler, _ Identity) error {
		term, voter, err := h.Confirm(ctx, m.GetTerm())
		resp = &peerpb.ConfirmResponse{Term: term, Voter: voter}
		return err
	})
	return resp, err
}

func (s peerServer) ReadIndex(ctx context.Context, _ *peerpb.ReadIndexRequest) (resp *peerpb.ReadIndexResponse, err error) {
	err = s.handle(ctx, func(ctx context.Context, h Handler, _ Identity) error {
		index, term, err := h.ReadIndex(ctx)
		resp = &peerpb.ReadIndexResponse{Index: index, Term: term, OverQuota: s.t.cfg.OverQuota()}
		return err
	})
	return resp, err
}

func (s peerServer) Forward(ctx context.Context, m *peerpb.ForwardRequest) (resp *peerpb.ForwardResponse, err error) {
	err = s.handle(ctx, func(ctx context.Context, h Handler, from Identity) error {
		result, index, err := h.Forward(ctx, from, m.GetBatch())
		resp = &peerpb.ForwardResponse{Result: result, Index: index, OverQuota: s.t.cfg.OverQuota()}
		if err == nil && len(result) > MaxMessageBytes {
			return fmt.Errorf("%w: %d bytes", kv.ErrResultDropped, len(result))
		}
		return err
	})
	return resp, err
}

// Hello answers peers of other clusters, too.
func (s peerServer) Hello(ctx context.Context, _ *peerpb.HelloRequest) (resp *peerpb.HelloResponse, err error) {
	err = s.stranger(ctx, func(ctx context.Context, h Handler, _ Identity) error {
		resp, err = h.Hello(ctx)
		return err
	})
	return resp, err
}

func (s peerServer) Join(ctx context.Context, m *peerpb.JoinRequest) (resp *peerpb.JoinResponse, err error) {
	err = s.stranger(ctx, func(ctx context.Context, h Handler, from Identity) error {
		resp, err = h.Join(ctx, from, m)
		return err
	})
	return resp, err
}

func (s peerServer) Change(ctx context.Context, m *peerpb.ChangeRequest) (resp *peerpb.ChangeResponse, err error) {
	err = s.handle(ctx, func(ctx context.Context, h Handler, _ Identity) error {
		resp, err = h.Change(ctx, m)
		return err
	})
	return resp, err
}

func (s peerServer) Leases(ctx context.Context, m *peerpb.LeasesRequest) (resp *peerpb.LeasesResponse, err error) {
	err = s.handle(ctx, func(ctx context.Context, h Handler, _ Identity) error {
		resp, err = h.Leases(ctx, m)
		return err
	})
	return resp, err
}

// stranger serves a caller whose certificate is right, of whatever cluster.
func (s peerServer) stranger(ctx context.Context, f func(context.Context, Handler, Identity) error) error {
	id, err := s.t.authenticate(ctx)
	switch {
	case err != nil:
		return err
	case id.From == "":
		return status.Error(codes.PermissionDenied, "the peer does not say who it is")
	case s.t.cfg.Handler == nil:
		return errClosed()
	}
	if err := s.t.introduce(ctx, id.From); err != nil {
		return err
	}
	ctx, cancel := s.t.bound(ctx)
	defer cancel(context.Canceled)
	return wireerr.ToStatus(f(ctx, s.t.cfg.Handler, id))
}

func (s peerServer) handle(ctx context.Context, f func(context.Context, Handler, Identity) error) error {
	admit := s.t.admit
	if method, _ := grpc.Method(ctx); needsNoName(method) {
		admit = s.t.welcome
	}
	id, err := admit(ctx)
	if err != nil {
		return err
	}
	if s.t.cfg.Handler == nil {
		return errClosed()
	}
	ctx, cancel := s.t.bound(ctx)
	defer cancel(context.Canceled)
	return wireerr.ToStatus(f(ctx, s.t.cfg.Handler, id))
}
