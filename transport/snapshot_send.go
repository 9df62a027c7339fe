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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// snapshotChunkBytes is what one message of a snapshot carries: large enough
// to cost little, small enough that a slow link moves one within SnapshotStall.
const snapshotChunkBytes = 256 << 10

var errStalled = status.Error(codes.DeadlineExceeded, "the snapshot makes no progress")

// InstallSnapshot implements raft.Transport. It takes as long as it needs while
// bytes move; without progress it ends (Timeouts.SnapshotStall).
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	p, err := t.peer(string(id), string(target))
	if err != nil {
		return err
	}
	p.ahead.forget()
	c, err := p.conn(laneSnapshot)
	if err != nil {
		return t.raftError("InstallSnapshot", id, err)
	}
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(context.Canceled) // also tells the receiver that the rest will not come
	s := &snapshotSender{
		check:      p.checkStream,
		stallAfter: 2 * t.cfg.Timeouts.SnapshotStall, finish: t.cfg.Timeouts.SnapshotFinish,
	}
	s.stall = time.AfterFunc(s.stallAfter, func() { cancel(errStalled) })
	defer s.stall.Stop()
	m, err := s.send(t.outgoing(ctx, p.id), pb.NewRaftTransportClient(c), args, data)
	switch {
	case err == nil:
		p.answered(c)
		*resp = decodeSnapshotResponse(m)
		return nil
	case context.Cause(ctx) == errStalled:
		p.missed(laneSnapshot, c, missesStream)
		err = errStalled
	}
	return t.raftError("InstallSnapshot", id, err)
}

type snapshotSender struct {
	stallAfter, finish time.Duration
	check              func(metadata.MD, error) error // whose answer it is
	stall              *time.Timer                    // cancels the RPC; reset by each message that went out
}

func (s *snapshotSender) send(ctx context.Context, client pb.RaftTransportClient, args *raft.InstallSnapshotRequest, data io.Reader) (*pb.InstallSnapshotResponse, error) {
	rpc, err := client.InstallSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	err = rpc.Send(encodeSnapshotRequest(args))
	if err == nil {
		err = s.copy(rpc, args.Size, data)
	}
	if err != nil && !errors.Is(err, errReceiverEnded) && err != io.EOF {
		return nil, err
	}
	s.stall.Reset(s.finish)
	m, err := rpc.CloseAndRecv() // knows why the receiver ended the stream, if it did
	if err == nil {
		err = s.check(rpc.Header())
	}
	return m, err
}

var errReceiverEnded = errors.New("the receiver ended the stream")

// copy sends exactly size bytes, or fails.
func (s *snapshotSender) copy(rpc pb.RaftTransport_InstallSnapshotClient, size int64, data io.Reader) error {
	buf := make([]byte, snapshotChunkBytes)
	var sent int64
	for {
		n, err := io.ReadFull(data, buf)
		if sent += int64(n); sent > size {
			return fmt.Errorf("the snapshot is longer than the %d bytes it should have", size)
		}
		if n > 0 {
			if err := rpc.Send(&pb.InstallSnapshotRequest{Data: buf[:n]}); err != nil {
				return sendError(err)
			}
			s.stall.Reset(s.stallAfter)
		}
		switch {
		case err == nil:
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			return fmt.Errorf("read snapshot: %w", err)
		case sent < size:
			return fmt.Errorf("the snapshot ends after %d bytes of %d", sent, size)
		default:
			return nil
		}
	}
}

func sendError(err error) error {
	if err == io.EOF {
		return errReceiverEnded
	}
	return err
}
