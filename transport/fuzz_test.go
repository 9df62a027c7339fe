package transport

import (
	"testing"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fuzzMessage is a message of some kind that may be refused, or has come through
// validation and back into a message.
func fuzzMessage(kind uint8, b []byte) (m proto.Message, again proto.Message, err error) {
	switch kind % 5 {
	case 0:
		m := &pb.RequestVoteRequest{}
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, nil, err
		}
		r, err := validVote(Identity{}, m)
		if err != nil {
			return m, nil, err
		}
		return m, encodeVoteRequest(r), nil
	case 1:
		m := &pb.RequestPreVoteRequest{}
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, nil, err
		}
		r, err := validPreVote(Identity{}, m)
		if err != nil {
			return m, nil, err
		}
		return m, encodePreVoteRequest(r), nil
	case 2:
		m := &pb.TimeoutNowRequest{}
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, nil, err
		}
		r, err := validTimeoutNow(Identity{}, m)
		if err != nil {
			return m, nil, err
		}
		return m, encodeTimeoutNowRequest(r), nil
	case 3:
		m := &pb.InstallSnapshotRequest{}
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, nil, err
		}
		r, err := validSnapshot(Identity{}, m)
		if err != nil {
			return m, nil, err
		}
		raft.DecodeConfiguration(r.Configuration) // panics on what validation should have refused
		return m, encodeSnapshotRequest(r), nil
	}
	m2 := &pb.AppendEntriesResponse{}
	if err := proto.Unmarshal(b, m2); err != nil {
		return nil, nil, err
	}
	r := decodeAppendResponse(m2)
	return m2, encodeAppendResponse(&r), nil
}

// FuzzMessage: what raft is handed is what was sent, without unknown fields; all else is
// INVALID_ARGUMENT.
func FuzzMessage(f *testing.F) {
	add := func(kind uint8, m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, b)
	}
	add(0, &pb.RequestVoteRequest{RpcHeader: goodHeader(), Term: 3, Candidate: []byte("a:1"), LastLogIndex: 9, LastLogTerm: 2, LeadershipTransfer: true})
	add(1, &pb.RequestPreVoteRequest{RpcHeader: goodHeader(), Term: 3, LastLogIndex: 9, LastLogTerm: 2})
	add(2, &pb.TimeoutNowRequest{RpcHeader: goodHeader()})
	add(3, encodeSnapshotRequest(snapshotRequest("a", 1)))
	for _, m := range badSnapshots() {
		add(3, m)
	}
	add(4, &pb.AppendEntriesResponse{RpcHeader: goodHeader(), Term: 3, LastLog: 9, Success: true})
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m, again, err := fuzzMessage(kind, b)
		switch {
		case m == nil: // no such message
			return
		case err != nil:
			if status.Code(err) != codes.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		raw, err := proto.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		m2, again2, err := fuzzMessage(kind, raw)
		if err != nil || m2 == nil || !proto.Equal(again, again2) {
			t.Fatalf("%v became %v, then %v, %v", m, again, again2, err)
		}
	})
}

// FuzzIdentity: what is taken for an identity is one, bounded, and encodes to the same.
func FuzzIdentity(f *testing.F) {
	f.Add(newSelf(Identity{Cluster: [16]byte{1}, From: "a", Addr: "a:1", Incarnation: [16]byte{2}, Since: 7, Starts: []Start{{1, 2}, {3, 4}}}).value)
	f.Add("1;;;;;;;")
	f.Add("2;00000000000000000000000000000000;0;a;a:1;00000000000000000000000000000000;0;")
	f.Fuzz(func(t *testing.T, value string) {
		id, err := decodeIdentity(value)
		if err != nil {
			return
		}
		if id.From == "" || len(id.Starts) > maxStarts {
			t.Fatalf("%q is %+v", value, id)
		}
		out := newSelf(id).value
		again, err := decodeIdentity(out)
		if err != nil || newSelf(again).value != out {
			t.Fatalf("%q became %q, then %+v, %v", value, out, again, err)
		}
	})
}
