// Package tools pins what developers of replkv run. It is a module of its own,
// so that who imports replkv does not inherit generators and linters.
//
// From the root of the repository:
//
//	go -C tools run ./protogen                          # generate *.pb.go; CI checks that the tree stays clean
//	go tool -modfile=tools/go.mod staticcheck ./...     # lint the root module
package tools
