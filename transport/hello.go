package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/replkv/replkv/transport/peerpb"
)

// Hello asks who is at addr, of whatever cluster that is.
func (t *Transport) Hello(ctx context.Context, addr string) (id Identity, resp *peerpb.HelloResponse, err error) {
	id, err = t.ask(ctx, addr, func(ctx context.Context, c peerpb.PeerClient, opts ...grpc.CallOption) (err error) {
		resp, err = c.Hello(ctx, &peerpb.HelloRequest{}, opts...)
		return err
	})
	return id, resp, err
}

// Join asks the member at addr to make this one a member, too.
func (t *Transport) Join(ctx context.Context, addr string, m *peerpb.JoinRequest) (id Identity, resp *peerpb.JoinResponse, err error) {
	id, err = t.ask(ctx, addr, func(ctx context.Context, c peerpb.PeerClient, opts ...grpc.CallOption) (err error) {
		resp, err = c.Join(ctx, m, opts...)
		return err
	})
	return id, resp, err
}

// Change asks the leader for a change. Some wait for a member to catch up, so a
// deadline of ctx beyond Timeouts.Request holds.
func (t *Transport) Change(ctx context.Context, id, addr string, m *peerpb.ChangeRequest) (resp *peerpb.ChangeResponse, err error) {
	timeout := t.cfg.Timeouts.Request
	if end, ok := ctx.Deadline(); ok {
		timeout = max(timeout, time.Until(end))
	}
	err = t.call(ctx, id, addr, laneControl, timeout, func(ctx context.Context, cc *grpc.ClientConn) error {
		resp, err = peerpb.NewPeerClient(cc).Change(ctx, m)
		return err
	})
	return resp, peerError(err)
}

// Leases asks the leader about leases, or to keep them alive.
func (t *Transport) Leases(ctx context.Context, id, addr string, m *peerpb.LeasesRequest) (resp *peerpb.LeasesResponse, err error) {
	err = t.call(ctx, id, addr, laneControl, t.cfg.Timeouts.Request, func(ctx context.Context, cc *grpc.ClientConn) error {
		resp, err = peerpb.NewPeerClient(cc).Leases(ctx, m)
		return err
	})
	return resp, peerError(err)
}

// ask makes an RPC to whoever is at addr, and finds out who answered.
func (t *Transport) ask(ctx context.Context, addr string, rpc func(context.Context, peerpb.PeerClient, ...grpc.CallOption) error) (id Identity, err error) {
	var header metadata.MD
	var p grpcpeer.Peer
	err = t.call(ctx, "", addr, laneControl, t.cfg.Timeouts.Request, func(ctx context.Context, cc *grpc.ClientConn) error {
		return rpc(ctx, peerpb.NewPeerClient(cc), grpc.Header(&header), grpc.Peer(&p))
	})
	if err != nil {
		return id, peerError(err)
	}
	id, present, err := t.parseIdentity(header)
	if err == nil && !present {
		err = errors.New("does not say who it is")
	}
	if err == nil && !t.cfg.Insecure {
		err = t.checkCertificate(grpcpeer.NewContext(ctx, &p), id.From)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%s: %w", addr, err)
	}
	return id, nil
}
