package transport

import (
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Every field of raft's messages has one in Jille's. Decoders take any message,
// nil ones included; what must be there is checked in validate.go.

func encodeHeader(h raft.RPCHeader) *pb.RPCHeader {
	return &pb.RPCHeader{ProtocolVersion: int64(h.ProtocolVersion), Id: h.ID, Addr: h.Addr}
}

func decodeHeader(m *pb.RPCHeader) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(m.GetProtocolVersion()), ID: m.GetId(), Addr: m.GetAddr()}
}

func encodeAppendRequest(r *raft.AppendEntriesRequest) *pb.AppendEntriesRequest {
	m := &pb.AppendEntriesRequest{
		RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term,
		//lint:ignore SA1019 raft still sends the deprecated field
		Leader:       r.Leader,
		PrevLogEntry: r.PrevLogEntry, PrevLogTerm: r.PrevLogTerm, LeaderCommitIndex: r.LeaderCommitIndex,
	}
	if len(r.Entries) > 0 {
		m.Entries = make([]*pb.Log, len(r.Entries))
		for i, l := range r.Entries {
			m.Entries[i] = encodeLog(l)
		}
	}
	return m
}

// encodeLog relies on both enumerations having the same numbers (a test says so).
func encodeLog(l *raft.Log) *pb.Log {
	return &pb.Log{
		Index: l.Index, Term: l.Term, Type: pb.Log_LogType(l.Type),
		Data: l.Data, Extensions: l.Extensions, AppendedAt: encodeTime(l.AppendedAt),
	}
}

// encodeTime leaves out the zero time; Jille's decoder makes 1970 of it.
func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func decodeAppendRequest(m *pb.AppendEntriesRequest) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{
		RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), Leader: m.GetLeader(),
		PrevLogEntry: m.GetPrevLogEntry(), PrevLogTerm: m.GetPrevLogTerm(), LeaderCommitIndex: m.GetLeaderCommitIndex(),
	}
	if n := len(m.GetEntries()); n > 0 {
		logs := make([]raft.Log, n) // one allocation for all
		r.Entries = make([]*raft.Log, n)
		for i, l := range m.GetEntries() {
			decodeLog(&logs[i], l)
			r.Entries[i] = &logs[i]
		}
	}
	return r
}

func decodeLog(l *raft.Log, m *pb.Log) {
	*l = raft.Log{
		Index: m.GetIndex(), Term: m.GetTerm(), Type: raft.LogType(m.GetType()),
		Data: m.GetData(), Extensions: m.GetExtensions(),
	}
	if at := m.GetAppendedAt(); at != nil {
		l.AppendedAt = at.AsTime()
	}
}

func encodeAppendResponse(r *raft.AppendEntriesResponse) *pb.AppendEntriesResponse {
	return &pb.AppendEntriesResponse{
		RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term, LastLog: r.LastLog,
		Success: r.Success, NoRetryBackoff: r.NoRetryBackoff,
	}
}

func decodeAppendResponse(m *pb.AppendEntriesResponse) raft.AppendEntriesResponse {
	return raft.AppendEntriesResponse{
		RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), LastLog: m.GetLastLog(),
		Success: m.GetSuccess(), NoRetryBackoff: m.GetNoRetryBackoff(),
	}
}

func encodeVoteRequest(r *raft.RequestVoteRequest) *pb.RequestVoteRequest {
	return &pb.RequestVoteRequest{
		RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term,
		//lint:ignore SA1019 raft still sends the deprecated field
		Candidate:    r.Candidate,
		LastLogIndex: r.LastLogIndex, LastLogTerm: r.LastLogTerm, LeadershipTransfer: r.LeadershipTransfer,
	}
}

func decodeVoteRequest(m *pb.RequestVoteRequest) *raft.RequestVoteRequest {
	return &raft.RequestVoteRequest{
		RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), Candidate: m.GetCandidate(),
		LastLogIndex: m.GetLastLogIndex(), LastLogTerm: m.GetLastLogTerm(), LeadershipTransfer: m.GetLeadershipTransfer(),
	}
}

func encodeVoteResponse(r *raft.RequestVoteResponse) *pb.RequestVoteResponse {
	return &pb.RequestVoteResponse{RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term, Peers: r.Peers, Granted: r.Granted}
}

func decodeVoteResponse(m *pb.RequestVoteResponse) raft.RequestVoteResponse {
	return raft.RequestVoteResponse{RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), Peers: m.GetPeers(), Granted: m.GetGranted()}
}

func encodePreVoteRequest(r *raft.RequestPreVoteRequest) *pb.RequestPreVoteRequest {
	return &pb.RequestPreVoteRequest{
		RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term, LastLogIndex: r.LastLogIndex, LastLogTerm: r.LastLogTerm,
	}
}

func decodePreVoteRequest(m *pb.RequestPreVoteRequest) *raft.RequestPreVoteRequest {
	return &raft.RequestPreVoteRequest{
		RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), LastLogIndex: m.GetLastLogIndex(), LastLogTerm: m.GetLastLogTerm(),
	}
}

func encodePreVoteResponse(r *raft.RequestPreVoteResponse) *pb.RequestPreVoteResponse {
	return &pb.RequestPreVoteResponse{RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term, Granted: r.Granted}
}

func decodePreVoteResponse(m *pb.RequestPreVoteResponse) raft.RequestPreVoteResponse {
	return raft.RequestPreVoteResponse{RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), Granted: m.GetGranted()}
}

func encodeTimeoutNowRequest(r *raft.TimeoutNowRequest) *pb.TimeoutNowRequest {
	return &pb.TimeoutNowRequest{RpcHeader: encodeHeader(r.RPCHeader)}
}

func decodeTimeoutNowRequest(m *pb.TimeoutNowRequest) *raft.TimeoutNowRequest {
	return &raft.TimeoutNowRequest{RPCHeader: decodeHeader(m.GetRpcHeader())}
}

func encodeTimeoutNowResponse(r *raft.TimeoutNowResponse) *pb.TimeoutNowResponse {
	return &pb.TimeoutNowResponse{RpcHeader: encodeHeader(r.RPCHeader)}
}

func decodeTimeoutNowResponse(m *pb.TimeoutNowResponse) raft.TimeoutNowResponse {
	return raft.TimeoutNowResponse{RPCHeader: decodeHeader(m.GetRpcHeader())}
}

func encodeSnapshotRequest(r *raft.InstallSnapshotRequest) *pb.InstallSnapshotRequest {
	return &pb.InstallSnapshotRequest{
		RpcHeader: encodeHeader(r.RPCHeader), SnapshotVersion: int64(r.SnapshotVersion), Term: r.Term, Leader: r.Leader,
		LastLogIndex: r.LastLogIndex, LastLogTerm: r.LastLogTerm, Peers: r.Peers,
		Configuration: r.Configuration, ConfigurationIndex: r.ConfigurationIndex, Size: r.Size,
	}
}

func decodeSnapshotRequest(m *pb.InstallSnapshotRequest) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{
		RPCHeader: decodeHeader(m.GetRpcHeader()), SnapshotVersion: raft.SnapshotVersion(m.GetSnapshotVersion()),
		Term: m.GetTerm(), Leader: m.GetLeader(), LastLogIndex: m.GetLastLogIndex(), LastLogTerm: m.GetLastLogTerm(),
		Peers: m.GetPeers(), Configuration: m.GetConfiguration(), ConfigurationIndex: m.GetConfigurationIndex(), Size: m.GetSize(),
	}
}

func encodeSnapshotResponse(r *raft.InstallSnapshotResponse) *pb.InstallSnapshotResponse {
	return &pb.InstallSnapshotResponse{RpcHeader: encodeHeader(r.RPCHeader), Term: r.Term, Success: r.Success}
}

func decodeSnapshotResponse(m *pb.InstallSnapshotResponse) raft.InstallSnapshotResponse {
	return raft.InstallSnapshotResponse{RPCHeader: decodeHeader(m.GetRpcHeader()), Term: m.GetTerm(), Success: m.GetSuccess()}
}
