// Package transport carries hashicorp/raft's RPCs over gRPC, and the requests
// that members make of each other beside them (confirm a term, ask for a read
// index, forward a batch).
//
// On the wire it speaks the RaftTransport protocol of
// github.com/Jille/raft-grpc-transport, so that a cluster built on that can
// move over member by member, and the Peer service of peerpb. It shares
// nothing with that module's Go code but the generated messages.
//
// What it keeps:
//
//   - Every RPC ends: by its own deadline, by the caller's ctx, or by Close. A
//     snapshot has no total deadline but one without progress.
//   - It works on a plain grpc.NewServer(): no message above MaxMessageBytes,
//     no gRPC keepalive pings.
//   - Nothing that the network says can make raft panic: all is validated
//     before it is handed on (validate.go).
//   - A handler never hands on an RPC whose sender has given up.
//   - Heartbeats go to raft's main loop like everything else: a fast path beside
//     it can set a member's term back.
//   - No RPC is served to an unidentified peer, unless Config.Insecure is set.
//
// Reading the source: config.go, transport.go; then as a request travels,
// append.go and stream.go (client), peer.go (connections), server.go and
// server_stream.go, identity.go, validate.go.
//
// The package is public by path only and promises no compatibility.
package transport
