package transport

import (
	"bytes"
	"fmt"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What raft would panic on, or store and panic on later, stops here. Each
// function returns the command to hand to raft, or INVALID_ARGUMENT.

// maxNameBytes bounds ids and addresses.
const maxNameBytes = 1 << 10

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// validHeader checks the header that each request has; its id must be that of
// the identity, which was checked.
func validHeader(id Identity, h *pb.RPCHeader) error {
	switch {
	case h == nil:
		return invalid("no RPC header")
	case len(h.GetId()) > maxNameBytes || len(h.GetAddr()) > maxNameBytes:
		return invalid("the header's id or address is too long")
	case h.GetProtocolVersion() < int64(raft.ProtocolVersionMin) || h.GetProtocolVersion() > int64(raft.ProtocolVersionMax):
		return invalid("raft protocol version %d is not known", h.GetProtocolVersion())
	case id.From != "" && len(h.GetId()) > 0 && !bytes.Equal(h.GetId(), []byte(id.From)):
		return invalid("the header says %q, the identity %q", h.GetId(), id.From)
	}
	return nil
}

func validTerm(term uint64) error {
	if term == 0 {
		return invalid("term 0")
	}
	return nil
}

func validVote(id Identity, m *pb.RequestVoteRequest) (*raft.RequestVoteRequest, error) {
	if err := validHeader(id, m.GetRpcHeader()); err != nil {
		return nil, err
	}
	if err := validTerm(m.GetTerm()); err != nil {
		return nil, err
	}
	if len(m.GetCandidate()) > maxNameBytes {
		return nil, invalid("the candidate's address is too long")
	}
	return decodeVoteRequest(m), nil
}

func validPreVote(id Identity, m *pb.RequestPreVoteRequest) (*raft.RequestPreVoteRequest, error) {
	if err := validHeader(id, m.GetRpcHeader()); err != nil {
		return nil, err
	}
	if err := validTerm(m.GetTerm()); err != nil {
		return nil, err
	}
	return decodePreVoteRequest(m), nil
}

func validTimeoutNow(id Identity, m *pb.TimeoutNowRequest) (*raft.TimeoutNowRequest, error) {
	if err := validHeader(id, m.GetRpcHeader()); err != nil {
		return nil, err
	}
	return decodeTimeoutNowRequest(m), nil
}

// validAppend checks an AppendEntries: its entries follow PrevLogEntry without
// a gap, their terms do not decrease and do not exceed the leader's.
func validAppend(id Identity, m *pb.AppendEntriesRequest) (*raft.AppendEntriesRequest, error) {
	if err := validHeader(id, m.GetRpcHeader()); err != nil {
		return nil, err
	}
	if err := validTerm(m.GetTerm()); err != nil {
		return nil, err
	}
	switch {
	case len(m.GetLeader()) > maxNameBytes:
		return nil, invalid("the leader's address is too long")
	case (m.GetPrevLogEntry() == 0) != (m.GetPrevLogTerm() == 0):
		return nil, invalid("previous entry %d has term %d", m.GetPrevLogEntry(), m.GetPrevLogTerm())
	case m.GetPrevLogTerm() > m.GetTerm():
		return nil, invalid("previous entry of term %d from a leader of term %d", m.GetPrevLogTerm(), m.GetTerm())
	}
	index, term := m.GetPrevLogEntry(), m.GetPrevLogTerm()
	for _, l := range m.GetEntries() {
		index++
		switch {
		case l.GetIndex() != index || index == 0:
			return nil, invalid("entry %d where %d should be", l.GetIndex(), index)
		case l.GetTerm() == 0 || l.GetTerm() < term || l.GetTerm() > m.GetTerm():
			return nil, invalid("entry %d of term %d after term %d from a leader of term %d", index, l.GetTerm(), term, m.GetTerm())
		}
		if err := validLog(l); err != nil {
			return nil, err
		}
		term = l.GetTerm()
	}
	return decodeAppendRequest(m), nil
}

func validLog(l *pb.Log) error {
	switch l.GetType() {
	case pb.Log_LOG_COMMAND, pb.Log_LOG_NOOP, pb.Log_LOG_BARRIER:
		return nil
	case pb.Log_LOG_CONFIGURATION:
		if err := validConfiguration(l.GetData()); err != nil {
			return invalid("entry %d: %v", l.GetIndex(), err)
		}
		return nil
	}
	return invalid("entry %d has type %d", l.GetIndex(), l.GetType()) // deprecated types too: our protocol version never makes them
}

func validSnapshot(id Identity, m *pb.InstallSnapshotRequest) (*raft.InstallSnapshotRequest, error) {
	if err := validHeader(id, m.GetRpcHeader()); err != nil {
		return nil, err
	}
	if err := validTerm(m.GetTerm()); err != nil {
		return nil, err
	}
	switch {
	case m.GetSnapshotVersion() != 1: // 0 is that of protocol versions below 3
		return nil, invalid("snapshot version %d", m.GetSnapshotVersion())
	case m.GetSize() < 0:
		return nil, invalid("snapshot of %d bytes", m.GetSize())
	case m.GetLastLogIndex() == 0 || m.GetLastLogTerm() == 0 || m.GetLastLogTerm() > m.GetTerm():
		return nil, invalid("snapshot at index %d, term %d from a leader of term %d", m.GetLastLogIndex(), m.GetLastLogTerm(), m.GetTerm())
	case m.GetConfigurationIndex() > m.GetLastLogIndex():
		return nil, invalid("configuration at index %d, above the snapshot's %d", m.GetConfigurationIndex(), m.GetLastLogIndex())
	case len(m.GetLeader()) > maxNameBytes:
		return nil, invalid("the leader's address is too long")
	}
	if err := validConfiguration(m.GetConfiguration()); err != nil {
		return nil, invalid("%v", err)
	}
	return decodeSnapshotRequest(m), nil
}

// validConfiguration decodes a configuration on trial: raft's own decoding
// panics on garbage. The checks are those that raft makes of its own changes.
func validConfiguration(b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("bad configuration: %v", r)
		}
	}()
	ids, addrs, voters := map[raft.ServerID]bool{}, map[raft.ServerAddress]bool{}, 0
	for _, s := range raft.DecodeConfiguration(b).Servers {
		switch {
		case s.ID == "" || s.Address == "" || len(s.ID) > maxNameBytes || len(s.Address) > maxNameBytes:
			return fmt.Errorf("bad configuration: server %.64q at %.64q", s.ID, s.Address)
		case ids[s.ID] || addrs[s.Address]:
			return fmt.Errorf("bad configuration: %s at %s is there twice", s.ID, s.Address)
		case s.Suffrage < raft.Voter || s.Suffrage > raft.Staging:
			return fmt.Errorf("bad configuration: %s has suffrage %d", s.ID, s.Suffrage)
		}
		ids[s.ID], addrs[s.Address] = true, true
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if voters == 0 {
		return fmt.Errorf("bad configuration: no voter")
	}
	return nil
}
