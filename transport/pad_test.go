package transport

import (
	"testing"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"google.golang.org/protobuf/proto"
)

func TestPrompt(t *testing.T) {
	small := &pb.AppendEntriesResponse{Term: 3, LastLog: 7, Success: true}
	b, err := proto.Marshal(prompt(small))
	if err != nil || len(b) < promptBytes {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	var got pb.AppendEntriesResponse
	if err := proto.Unmarshal(b, &got); err != nil || got.GetTerm() != 3 || got.GetLastLog() != 7 || !got.GetSuccess() {
		t.Errorf("%v, %v", &got, err)
	}
	large := &pb.AppendEntriesRequest{Leader: make([]byte, promptBytes)}
	if n := proto.Size(large); proto.Size(prompt(large)) != n {
		t.Error("a large message was padded")
	}
}
