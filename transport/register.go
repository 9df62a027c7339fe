package transport

import (
	"fmt"
	"strings"

	pb "github.com/Jille/raft-grpc-transport/proto"
	"google.golang.org/grpc"

	"github.com/replkv/replkv/internal/service/mount"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/peerpb"
)

// Register adds the peer services to s, a plain grpc.NewServer() or any other,
// before it serves: gRPC ends the process when a service is added later, which
// cannot be seen from here. A service that is there already, which gRPC would
// end the process for too, is kv.ErrAlreadyRegistered.
func (t *Transport) Register(s grpc.ServiceRegistrar) error {
	if s == nil {
		return fmt.Errorf("%w: Register needs a server", kv.ErrInvalidArgument)
	}
	if err := mount.Check(s, peerServices()...); err != nil {
		return err
	}
	pb.RegisterRaftTransportServer(s, raftServer{t: t})
	peerpb.RegisterPeerServer(s, peerServer{t: t})
	return nil
}

// IsPeerMethod reports whether a full method name ("/service/method") belongs
// to the peer services, for the interceptors of the application.
func IsPeerMethod(fullMethod string) bool {
	service, _, ok := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	if !ok {
		return false
	}
	for _, name := range peerServices() {
		if service == name {
			return true
		}
	}
	return false
}

func peerServices() []string {
	return []string{pb.RaftTransport_ServiceDesc.ServiceName, peerpb.Peer_ServiceDesc.ServiceName}
}
