package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// InstallSnapshot hands a snapshot to raft, whose main goroutine reads it: the
// reader must end whatever the sender does.
func (s raftServer) InstallSnapshot(rpc pb.RaftTransport_InstallSnapshotServer) error {
	id, err := s.t.admit(rpc.Context())
	if err != nil {
		return err
	}
	ctx, cancel := s.t.bound(rpc.Context())
	defer cancel(context.Canceled)
	stall := time.AfterFunc(s.t.cfg.Timeouts.SnapshotStall, func() { cancel(errStalled) })
	defer stall.Stop()

	// Recv ends only when the handler returns, so it has a goroutine of its own.
	messages := make(chan snapshotMessage)
	go receiveSnapshot(ctx, rpc, messages)

	var first snapshotMessage
	select {
	case first = <-messages:
	case <-ctx.Done():
		return s.t.ended(ctx)
	}
	if first.err != nil {
		return status.Error(codes.InvalidArgument, "the snapshot stream has no header")
	}
	cmd, err := validSnapshot(id, first.m)
	if err != nil {
		return err
	}
	r := &snapshotReader{
		ctx: ctx, messages: messages, buf: first.m.GetData(), left: cmd.Size,
		progress: func() { stall.Reset(s.t.cfg.Timeouts.SnapshotStall) },
		complete: func() { stall.Reset(s.t.cfg.Timeouts.SnapshotFinish) },
	}
	resp, err := submit[*raft.InstallSnapshotResponse](ctx, s.t, cmd, r)
	if status.Code(err) == codes.AlreadyExists { // raft is in the request's term
		resp, err = &raft.InstallSnapshotResponse{Term: cmd.Term, Success: true}, nil
	}
	if err != nil {
		return err
	}
	return rpc.SendAndClose(encodeSnapshotResponse(resp))
}

// ErrCovered is what the snapshot store answers raft with that has all of a snapshot
// already. Whoever sent it is told that it was installed.
var ErrCovered = errors.New("all of the snapshot is here")

type snapshotMessage struct {
	m   *pb.InstallSnapshotRequest
	err error
}

func receiveSnapshot(ctx context.Context, rpc pb.RaftTransport_InstallSnapshotServer, out chan<- snapshotMessage) {
	for {
		m, err := rpc.Recv()
		select {
		case out <- snapshotMessage{m, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// snapshotReader is what raft reads a snapshot from, on one goroutine. It
// yields exactly the size announced and then io.EOF, or an error; it never
// returns bytes together with an error, nor nothing without one.
type snapshotReader struct {
	ctx                context.Context // ends with the RPC, and with it every Read
	messages           <-chan snapshotMessage
	buf                []byte
	left               int64
	err                error // sticky
	progress, complete func()
}

func (r *snapshotReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.buf) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.buf, r.err = r.next()
	}
	if int64(len(r.buf)) > r.left {
		r.buf, r.err = nil, fmt.Errorf("the snapshot is longer than it should be")
		return 0, r.err
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	r.left -= int64(n)
	r.progress()
	return n, nil
}

// next waits for the next message.
func (r *snapshotReader) next() ([]byte, error) {
	select {
	case msg := <-r.messages:
		switch {
		case msg.err == io.EOF && r.left > 0:
			return nil, io.ErrUnexpectedEOF
		case msg.err == io.EOF:
			r.complete()
			return nil, io.EOF
		case msg.err != nil:
			return nil, msg.err
		}
		return msg.m.GetData(), nil
	case <-r.ctx.Done():
		return nil, context.Cause(r.ctx)
	}
}
