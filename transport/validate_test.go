package transport

import (
	"bytes"
	"reflect"
	"testing"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
)

func goodHeader() *pb.RPCHeader { return encodeHeader(header("a")) }

func goodAppend() *pb.AppendEntriesRequest {
	return encodeAppendRequest(&raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 3, PrevLogEntry: 4, PrevLogTerm: 1, Leader: []byte("a:1"),
		Entries: []*raft.Log{
			{Index: 5, Term: 2, Type: raft.LogCommand, Data: []byte("x")},
			{Index: 6, Term: 3, Type: raft.LogConfiguration, Data: configuration()},
		}})
}

func servers(s ...raft.Server) []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: s})
}

func badConfigurations() map[string][]byte {
	a := raft.Server{ID: "a", Address: "a:1"}
	return map[string][]byte{
		"empty": nil, "garbage": []byte("\xff\x00garbage"), "text": []byte("text"), "torn": configuration()[:10],
		"no servers": servers(), "no voter": servers(raft.Server{ID: "a", Address: "a:1", Suffrage: raft.Nonvoter}),
		"twice": servers(a, a), "same address": servers(a, raft.Server{ID: "b", Address: "a:1"}),
		"no id": servers(a, raft.Server{Address: "b:1"}), "no address": servers(a, raft.Server{ID: "b"}),
		"huge string": append([]byte("\x81\xa7Servers\x91\x81\xa2ID"), 0xdb, 0xff, 0xff, 0xff, 0xff),
		"deep":        append([]byte("\x81\xa7Xervers"), bytes.Repeat([]byte{0x91}, 1<<20)...),
		"suffrage":    servers(a, raft.Server{ID: "b", Address: "b:1", Suffrage: 7}),
	}
}

func badAppends() map[string]*pb.AppendEntriesRequest {
	bad := map[string]*pb.AppendEntriesRequest{"empty": {}}
	add := func(name string, change func(m *pb.AppendEntriesRequest)) {
		m := goodAppend()
		change(m)
		bad[name] = m
	}
	add("no header", func(m *pb.AppendEntriesRequest) { m.RpcHeader = nil })
	add("protocol", func(m *pb.AppendEntriesRequest) { m.RpcHeader.ProtocolVersion = 99 })
	add("long address", func(m *pb.AppendEntriesRequest) { m.RpcHeader.Addr = make([]byte, 1<<20) })
	add("term 0", func(m *pb.AppendEntriesRequest) { m.Term = 0 })
	add("gap after previous", func(m *pb.AppendEntriesRequest) { m.PrevLogEntry = 3 })
	add("previous without term", func(m *pb.AppendEntriesRequest) { m.PrevLogTerm = 0 })
	add("previous above leader", func(m *pb.AppendEntriesRequest) { m.PrevLogTerm = 4 })
	add("gap", func(m *pb.AppendEntriesRequest) { m.Entries[1].Index = 7 })
	add("overflow", func(m *pb.AppendEntriesRequest) { m.PrevLogEntry = 1<<64 - 1; m.Entries[0].Index = 0 })
	add("term goes back", func(m *pb.AppendEntriesRequest) { m.Entries[0].Term, m.Entries[1].Term = 3, 2 })
	add("term above leader", func(m *pb.AppendEntriesRequest) { m.Entries[1].Term = 4 })
	add("entry of term 0", func(m *pb.AppendEntriesRequest) { m.Entries[0].Term = 0 })
	add("type", func(m *pb.AppendEntriesRequest) { m.Entries[0].Type = 99 })
	add("negative type", func(m *pb.AppendEntriesRequest) { m.Entries[0].Type = -1 })
	add("deprecated type", func(m *pb.AppendEntriesRequest) { m.Entries[0].Type = pb.Log_LOG_ADD_PEER_DEPRECATED })
	add("empty entry", func(m *pb.AppendEntriesRequest) { m.Entries[0] = &pb.Log{} })
	for name, c := range badConfigurations() {
		add("configuration: "+name, func(m *pb.AppendEntriesRequest) { m.Entries[1].Data = c })
	}
	return bad
}

func badSnapshots() map[string]*pb.InstallSnapshotRequest {
	bad := map[string]*pb.InstallSnapshotRequest{"empty": {}}
	add := func(name string, change func(m *pb.InstallSnapshotRequest)) {
		m := encodeSnapshotRequest(snapshotRequest("a", 1))
		change(m)
		bad[name] = m
	}
	add("no header", func(m *pb.InstallSnapshotRequest) { m.RpcHeader = nil })
	add("version", func(m *pb.InstallSnapshotRequest) { m.SnapshotVersion = 2 })
	add("size", func(m *pb.InstallSnapshotRequest) { m.Size = -1 })
	add("index", func(m *pb.InstallSnapshotRequest) { m.LastLogIndex = 0 })
	add("term", func(m *pb.InstallSnapshotRequest) { m.LastLogTerm = 3 })
	add("configuration index", func(m *pb.InstallSnapshotRequest) { m.ConfigurationIndex = 10 })
	for name, c := range badConfigurations() {
		add("configuration: "+name, func(m *pb.InstallSnapshotRequest) { m.Configuration = c })
	}
	return bad
}

func TestTheHeaderMustAgreeWithTheIdentity(t *testing.T) {
	if _, err := validAppend(Identity{From: "a"}, goodAppend()); err != nil {
		t.Error(err)
	}
	if _, err := validAppend(Identity{From: "c"}, goodAppend()); err == nil {
		t.Error("c sends as a")
	}
}

// FuzzAppend: whatever passes validation, raft's own decoding takes, and it has
// the shape that raft relies on.
func FuzzAppend(f *testing.F) {
	add := func(m *pb.AppendEntriesRequest) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(goodAppend())
	for _, m := range badAppends() {
		add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &pb.AppendEntriesRequest{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		r, err := validAppend(Identity{}, m)
		if err != nil {
			return
		}
		next := r.PrevLogEntry
		for _, l := range r.Entries {
			if next++; l.Index != next {
				t.Fatalf("entry %d where %d should be", l.Index, next)
			}
			switch l.Type {
			case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
			case raft.LogConfiguration:
				raft.DecodeConfiguration(l.Data)
			default:
				t.Fatalf("type %v", l.Type)
			}
		}
		again, err := validAppend(Identity{}, encodeAppendRequest(r))
		if err != nil || len(again.Entries) != len(r.Entries) || !reflect.DeepEqual(again.RPCHeader, r.RPCHeader) {
			t.Fatalf("changed on the way: %v", err)
		}
	})
}
