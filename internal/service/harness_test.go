package service

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/service/kvtest"
)

func serve(t *testing.T, f *kvtest.Fake) *grpc.ClientConn { return serveBackend(t, f) }

// serveBackend mounts b on a plain gRPC server and returns a plain connection.
func serveBackend(t *testing.T, b Backend) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	if err := Register(srv, b); err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantStatus checks code, reason and outcome.
func wantStatus(t *testing.T, err error, code codes.Code, reason string, outcome replkvv1.Outcome) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("got %v, want code %v", err, code)
	}
	for _, d := range s.Details() {
		if d, ok := d.(*replkvv1.ErrorDetail); ok {
			if d.GetReason() != reason || d.GetOutcome() != outcome || d.GetOp() == "" {
				t.Errorf("%v: detail %v, want %s, %v", err, d, reason, outcome)
			}
			return
		}
	}
	t.Errorf("%v carries no detail", err)
}
