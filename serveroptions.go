package replkv

import "google.golang.org/grpc"

// peerWindow is how many bytes of a peer's stream, and of all its streams, may
// wait to be read. A message has at most 4 MiB.
const peerWindow = 4 << 20

// ServerOptions are for the application's gRPC server, if it mounts the peer
// service: none is needed, all make it cheaper. They fix the window of a
// connection, so that large appends do not wait for updates of it, and gRPC need
// not estimate the bandwidth with pings. They may be combined with others.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.InitialWindowSize(peerWindow), grpc.InitialConnWindowSize(2 * peerWindow)}
}
