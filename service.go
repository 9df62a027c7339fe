package replkv

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service"
)

// RegisterClient mounts the client services (replkv.v1: KV, Lease, Cluster, TextKV) on
// the application's own gRPC server, whose interceptors authenticate the
// callers. Call it before Serve. ErrAlreadyRegistered if the server has them.
// After Close their methods answer UNAVAILABLE. A client's writes are numbered in
// a session of its own, so that package client has each done exactly once.
func (db *DB) RegisterClient(s grpc.ServiceRegistrar) error {
	if err := service.Register(s, serviceBackend{db, new(atomic.Int64)}); err != nil {
		return fmt.Errorf("replkv: RegisterClient: %w", err)
	}
	return nil
}

// serviceBackend adds to the verbs what the Cluster service tells, and the
// sessions of remote clients (remote.go).
type serviceBackend struct {
	*DB
	underway *atomic.Int64 // bytes of batches
}

func (b serviceBackend) Backup(ctx context.Context, w io.Writer, opts ...ReadOption) error {
	_, err := b.DB.Backup(ctx, w, opts...)
	return err
}

func (b serviceBackend) Status(context.Context) (*replkvv1.StatusResponse, error) {
	s := b.DB.Status()
	return s.toProto(), nil
}

func (s *Status) toProto() *replkvv1.StatusResponse {
	out := &replkvv1.StatusResponse{Id: s.ID, Address: s.Addr, Role: s.Role, LeaderId: s.LeaderID, LeaderAddress: s.LeaderAddr,
		Term: s.Term, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, LastLogIndex: s.LastLogIndex,
		Revision: int64(s.Revision), CompactedRevision: int64(s.CompactedRevision), Ready: s.Err == nil && s.LeaderID != "",
		LastContact: timeToProto(s.LastContact), StateBytes: s.StateBytes, LogBytes: s.LogBytes, Disk: s.Disk,
		MembershipIndex: s.MembershipIndex, MayVote: s.MayVote, Leases: int64(s.Leases), QuotaBytes: s.QuotaBytes, QuotaExceeded: s.QuotaExceeded, Error: errorText(s.Err)}
	if e := s.LastElection; !e.At.IsZero() {
		out.LastElection = &replkvv1.Election{At: timeToProto(e.At), Term: e.Term, LeaderId: e.LeaderID, Reason: e.Reason}
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, &replkvv1.Member{Id: m.ID, Address: m.Addr, Voter: !m.Nonvoter,
			Peer: &replkvv1.PeerState{LastError: errorText(m.LastError), LastContact: timeToProto(m.LastContact),
				MatchIndex: m.MatchIndex, Lag: m.Lag}})
	}
	return out
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// errorText is fit for a proto3 string, which must be UTF-8.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.ToValidUTF8(err.Error(), "\uFFFD")
}
