package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fuzzMessage is a message of some kind that may be refused, or has come through
// validation and back into a message.
func fuzzMessage(kind uint8, b []byte) (m proto.Message, again proto.Message, err error) {
	switch kind % 9 {
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
	return fuzzAnswer(kind%9, b)
}

// fuzzAnswer is an answer of some kind. None is refused.
func fuzzAnswer(kind uint8, b []byte) (m proto.Message, again proto.Message, err error) {
	switch kind {
	case 4:
		m, again, err = recoded(b, &pb.AppendEntriesResponse{}, decodeAppendResponse, encodeAppendResponse)
	case 5:
		m, again, err = recoded(b, &pb.RequestVoteResponse{}, decodeVoteResponse, encodeVoteResponse)
	case 6:
		m, again, err = recoded(b, &pb.RequestPreVoteResponse{}, decodePreVoteResponse, encodePreVoteResponse)
	case 7:
		m, again, err = recoded(b, &pb.TimeoutNowResponse{}, decodeTimeoutNowResponse, encodeTimeoutNowResponse)
	case 8:
		m, again, err = recoded(b, &pb.InstallSnapshotResponse{}, decodeSnapshotResponse, encodeSnapshotResponse)
	}
	return m, again, err
}

func recoded[M proto.Message, R any](b []byte, m M, decode func(M) R, encode func(*R) M) (proto.Message, proto.Message, error) {
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, nil, err
	}
	r := decode(m)
	return m, encode(&r), nil
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
	add(5, &pb.RequestVoteResponse{RpcHeader: goodHeader(), Term: 3, Peers: []byte("p"), Granted: true})
	add(6, &pb.RequestPreVoteResponse{RpcHeader: goodHeader(), Term: 3, Granted: true})
	add(7, &pb.TimeoutNowResponse{RpcHeader: goodHeader()})
	add(8, &pb.InstallSnapshotResponse{RpcHeader: goodHeader(), Term: 3, Success: true})
	for kind := range uint8(9) {
		f.Add(kind, []byte{})
	}
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

// FuzzIdentity: what is taken for an identity is one, bounded, and encodes to the same;
// as metadata it is there once, or refused, and parsed the same each time.
func FuzzIdentity(f *testing.F) {
	f.Add(newSelf(Identity{Cluster: [16]byte{1}, From: "a", Addr: "a:1", Incarnation: [16]byte{2}, Since: 7, Starts: []Start{{1, 2}, {3, 4}}}).value)
	f.Add("1;;;;;;;")
	f.Add("2;00000000000000000000000000000000;0;a;a:1;00000000000000000000000000000000;0;")
	f.Fuzz(func(t *testing.T, value string) {
		id, err := decodeIdentity(value)
		parsed, _ := New(testConfig("b", "b:1"))
		md := metadata.Pairs(keyIdentity, value, keyTo, "b")
		for range 2 { // the second time it is known
			got, present, parseErr := parsed.parseIdentity(md)
			want := id
			want.To = "b"
			if !present || (err == nil) != (parseErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
				t.Fatalf("parsed %+v, %v, %v; decoded %+v, %v", got, present, parseErr, id, err)
			}
		}
		for _, md := range []metadata.MD{metadata.Pairs(keyIdentity, value), metadata.Pairs(keyTo, value), metadata.Pairs(keyIdentity, value, keyTo, "b", keyTo, value),
			metadata.Pairs(keyIdentity, value, keyIdentity, value, keyTo, "b")} {
			if _, present, err := parsed.parseIdentity(md); !present || err == nil {
				t.Fatalf("%v: %v, %v", md, present, err)
			}
		}
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

// fuzzSnapshot is an InstallSnapshot whose sender says what the input has between
// separators, and then ends in one of the ways there are.
type fuzzSnapshot struct {
	pb.RaftTransport_InstallSnapshotServer
	ctx   context.Context
	parts [][]byte
	how   uint8
	sent  *bytes.Buffer // the data so far
	resp  *pb.InstallSnapshotResponse
}

var (
	errSenderGone = errors.New("the sender is gone")
	fuzzSeparator = []byte("\xfe\xfd")
)

func (s *fuzzSnapshot) Context() context.Context { return s.ctx }

func (s *fuzzSnapshot) Recv() (*pb.InstallSnapshotRequest, error) {
	for len(s.parts) > 0 {
		m := &pb.InstallSnapshotRequest{}
		err := proto.Unmarshal(s.parts[0], m)
		s.parts = s.parts[1:]
		if err == nil {
			s.sent.Write(m.GetData())
			return m, nil
		}
	}
	switch s.how % 3 {
	case 0:
		return nil, io.EOF
	case 1:
		return nil, errSenderGone
	}
	<-s.ctx.Done() // it hangs
	return nil, s.ctx.Err()
}

func (s *fuzzSnapshot) SendAndClose(m *pb.InstallSnapshotResponse) error {
	s.resp = m
	return nil
}

// FuzzSnapshot: of whatever messages and end, raft reads exactly the bytes announced, as
// they were sent, or an error, and the sender is told that it is installed in the first
// case only; the call ends.
func FuzzSnapshot(f *testing.F) {
	add := func(how uint8, size int64, data ...string) {
		first := encodeSnapshotRequest(snapshotRequest("a", size))
		var parts [][]byte
		for i, d := range append([]string{""}, data...) {
			m := &pb.InstallSnapshotRequest{Data: []byte(d)}
			if i == 0 {
				m = first
			}
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			parts = append(parts, b)
		}
		f.Add(how, bytes.Join(parts, fuzzSeparator))
	}
	for how := range uint8(6) {
		add(how, 0)
		add(how, 5, "abc", "", "de")
		add(how, 4, "abc", "de")
		add(how, 6, "abc", "de")
	}
	for _, m := range badSnapshots() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(0), b)
	}
	f.Fuzz(func(t *testing.T, how uint8, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			tr, err := New(testConfig("b", "b:1"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &fuzzSnapshot{ctx: ctx, parts: bytes.Split(in, fuzzSeparator), how: how, sent: &bytes.Buffer{}}
			var got bytes.Buffer
			var size, read int64
			var readErr error
			raftDone := make(chan struct{})
			go func() { // raft
				defer close(raftDone)
				select {
				case rpc := <-tr.Consumer():
					cmd := rpc.Command.(*raft.InstallSnapshotRequest)
					raft.DecodeConfiguration(cmd.Configuration) // panics on what validation should have refused
					size = cmd.Size
					read, readErr = readSnapshot(rpc.Reader, &got, make([]byte, 1+how%7))
					rpc.Respond(&raft.InstallSnapshotResponse{Success: readErr == nil}, readErr)
				case <-ctx.Done():
				}
			}()
			began := time.Now()
			err = raftServer{t: tr}.InstallSnapshot(s)
			cancel()
			<-raftDone
			if took := time.Since(began); took > tr.cfg.Timeouts.SnapshotStall+time.Second {
				t.Fatalf("it took %v", took)
			}
			_ = tr.Close()
			switch _, isStatus := status.FromError(err); {
			case err != nil && (!isStatus || status.Code(err) == codes.OK || s.resp != nil):
				t.Fatalf("answered with %v and %v", s.resp, err)
			case err == nil && (readErr != nil || read != size || how%3 != 0 || !s.resp.GetSuccess()):
				t.Fatalf("read %d of %d, %v, and told %v", read, size, readErr, s.resp)
			case read > size || !bytes.HasPrefix(s.sent.Bytes(), got.Bytes()):
				t.Fatalf("read %q of %d bytes, sent was %q", got.Bytes(), size, s.sent.Bytes())
			}
		})
	})
}
