package replkv

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service"
)

// RegisterClient mounts the client services (replkv.v1: KV, Cluster, TextKV) on
// the application's own gRPC server, whose interceptors authenticate the
// callers. Call it before Serve. ErrAlreadyRegistered if the server has them.
// After Close their methods answer UNAVAILABLE.
func (db *DB) RegisterClient(s grpc.ServiceRegistrar) error {
	if err := service.Register(s, serviceBackend{db}); err != nil {
		return fmt.Errorf("replkv: RegisterClient: %w", err)
	}
	return nil
}

// serviceBackend adds to the verbs what the Cluster service tells.
type serviceBackend struct{ *DB }

func (b serviceBackend) Status(context.Context) (*replkvv1.StatusResponse, error) {
	s := b.DB.Status()
	out := &replkvv1.StatusResponse{Id: s.ID, Address: s.Addr, Role: s.Role, LeaderId: s.LeaderID, LeaderAddress: s.LeaderAddr,
		Term: s.Term, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, LastLogIndex: s.LastLogIndex,
		Revision: int64(s.Revision), CompactedRevision: int64(s.CompactedRevision), Ready: s.Err == nil && s.LeaderID != ""}
	for _, m := range s.Members {
		out.Members = append(out.Members, &replkvv1.Member{Id: m.ID, Address: m.Addr, Voter: !m.Nonvoter})
	}
	return out, nil
}
