// Command dragonboat measures dragonboat: a map as state machine, three
// NodeHosts in one process.
package main

import "github.com/replkv/replkv/bench/system"

func main() { system.Main("dragonboat", "github.com/lni/dragonboat/v4", open) }
