package transport

import (
	"context"
	"net"
	"testing"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
)

// BenchmarkAppendEntries is a round trip of one entry of 16 KiB over TCP
// loopback: on the stream, and as a unary RPC.
func BenchmarkAppendEntries(b *testing.B) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	serve := func(l net.Listener, id string) *Transport {
		tr, err := New(testConfig(id, l.Addr().String()))
		if err != nil {
			b.Fatal(err)
		}
		srv := grpc.NewServer()
		tr.Register(srv)
		go srv.Serve(l)
		b.Cleanup(func() { tr.Close(); srv.Stop() })
		return tr
	}
	from, to := serve(listen(), "a"), serve(listen(), "b")
	stop := make(chan struct{})
	b.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case rpc := <-to.Consumer():
				echo(rpc)
			case <-stop:
				return
			}
		}
	}()
	req := appendRequest("a", entries(0, 1, 16<<10))
	var resp raft.AppendEntriesResponse
	b.Run("stream", func(b *testing.B) {
		b.SetBytes(16 << 10)
		b.ReportAllocs()
		for b.Loop() {
			if err := from.AppendEntries("b", to.LocalAddr(), req, &resp); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unary", func(b *testing.B) {
		b.SetBytes(16 << 10)
		b.ReportAllocs()
		for b.Loop() {
			err := from.call(context.Background(), "b", string(to.LocalAddr()), laneLog, from.cfg.Timeouts.Append, func(ctx context.Context, cc *grpc.ClientConn) error {
				m, err := pb.NewRaftTransportClient(cc).AppendEntries(ctx, encodeAppendRequest(req))
				if err == nil {
					resp = decodeAppendResponse(m)
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
