// Command replkv measures this library: its defaults, three handles in one
// process.
package main

import "github.com/replkv/replkv/bench/system"

func main() { system.Main("replkv", "github.com/replkv/replkv", open) }
