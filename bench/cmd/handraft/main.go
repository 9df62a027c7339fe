// Command handraft measures what a user writes by hand in an afternoon:
// hashicorp/raft with its defaults, raft-boltdb, the gRPC transport by Jille, and
// a map.
package main

import "github.com/replkv/replkv/bench/system"

func main() { system.Main("handraft", "github.com/hashicorp/raft", open) }
