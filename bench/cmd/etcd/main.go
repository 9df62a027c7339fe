// Command etcd measures etcd, embedded: three servers in one process, through
// v3client in the process and through clientv3 over TCP.
package main

import "github.com/replkv/replkv/bench/system"

func main() { system.Main("etcd", "go.etcd.io/etcd/server/v3", open) }
