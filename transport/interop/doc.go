// Package interop tests package transport against the Go code of
// github.com/Jille/raft-grpc-transport. It is a module of its own, so that what
// that code needs does not become a dependency of replkv:
//
//	go -C transport/interop test -race ./...
package interop
