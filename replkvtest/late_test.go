package replkvtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/replkv/replkv"
	"github.com/replkv/replkv/internal/hook"
)

// sentSnapshots keeps what members sent as snapshots, so that it can be sent again.
type sentSnapshots struct {
	mu   sync.Mutex // protects the fields below
	last func(context.Context) error
}

func (s *sentSnapshots) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/InstallSnapshot") {
		return stream, err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	return &sentSnapshot{ClientStream: stream, all: s, again: func(ctx context.Context, messages []proto.Message) error {
		again, err := open(metadata.NewOutgoingContext(ctx, md), desc, cc, method)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := again.SendMsg(m); err != nil {
				break // its answer says why
			}
		}
		_ = again.CloseSend()
		return again.RecvMsg(&emptypb.Empty{})
	}}, nil
}

type sentSnapshot struct {
	grpc.ClientStream
	all      *sentSnapshots
	messages []proto.Message
	again    func(context.Context, []proto.Message) error
}

func (s *sentSnapshot) SendMsg(m any) error {
	s.messages = append(s.messages, proto.Clone(m.(proto.Message)))
	return s.ClientStream.SendMsg(m)
}

func (s *sentSnapshot) CloseSend() error {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	messages := s.messages
	s.all.last = func(ctx context.Context) error { return s.again(ctx, messages) }
	return s.ClientStream.CloseSend()
}

// TestLateSnapshot: a snapshot that was sent twice, and of which the second comes when
// the follower's log begins after it, takes nothing back.
func TestLateSnapshot(t *testing.T) {
	var sent sentSnapshots
	c := NewCluster(t, 3, WithConfig(func(i int, cfg *replkv.Config) {
		cfg.SnapshotLogBytes, cfg.TrailingLogBytes = 16<<10, 1
		cfg.PeerDialOptions = append(cfg.PeerDialOptions, grpc.WithChainStreamInterceptor(sent.stream))
	}))
	lead := c.Leader()
	away := (lead + 1) % 3
	first := func() uint64 { return hook.Inspect(c.DB(away)).FirstIndex() }
	write := func(from int, until func() bool) {
		t.Helper()
		for i := from; !until(); i++ {
			if _, err := c.DB(lead).Set(t.Context(), fmt.Sprintf("k%d", i), []byte(strings.Repeat("v", 2000))); err != nil {
				t.Fatal(err)
			}
		}
	}
	missed := c.DB(lead).Status().LastLogIndex + 1
	c.Partition([]int{lead, (lead + 2) % 3})
	write(0, func() bool { return hook.Inspect(c.DB(lead)).FirstIndex() > missed+200 })
	c.Heal()
	c.wait("the member to be sent a snapshot", func() bool { return c.snapshotsInstalled(away) > 0 })
	term, at := c.DB(lead).Status().Term, c.DB(away).Status().AppliedIndex
	write(1000, func() bool { return first() > at+200 })

	sent.mu.Lock()
	again := sent.last
	sent.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := again(ctx)
	t.Logf("the second one, of index %d at most, with a log from %d: %v", at, first(), err)
	if now := c.DB(lead).Status().Term; now != term {
		t.Skipf("term %d instead of %d: the snapshot counts no more", now, term)
	}
	n := 0
	write(2000, func() bool { n++; return n > 50 })
	c.wait("the member to catch up", func() bool {
		return c.DB(away).Err() != nil || c.DB(away).Status().AppliedIndex >= c.DB(lead).Status().AppliedIndex
	})
	if err := c.DB(away).Err(); err != nil {
		t.Error(err)
	}
}
