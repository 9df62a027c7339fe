// Command failover measures what losing the leader costs those who write: it is
// killed, or it shuts down, again and again, under a load through every member.
// Three members are processes of their own: TCP on loopback, and files in -dir,
// every write synced. It also checks that no acknowledged write is lost, and
// that the members are equal in the end.
//
//	go run ./failover -kills 20 -shutdowns 20
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// options are the flags.
type options struct {
	kills, shutdowns int
	callers, value   int
	settle           time.Duration
	election         time.Duration
	dir              string
	logs             bool

	role, id, table string // of a child process
	generation      uint64
}

func main() {
	var o options
	flag.IntVar(&o.kills, "kills", 20, "times that the leader gets SIGKILL")
	flag.IntVar(&o.shutdowns, "shutdowns", 20, "times that the leader shuts down")
	flag.IntVar(&o.callers, "callers", 4, "callers on each member, each with one Set after the other")
	flag.IntVar(&o.value, "value", 256, "bytes of a value")
	flag.DurationVar(&o.settle, "settle", time.Second, "how long all members work between two rounds")
	flag.DurationVar(&o.election, "election", time.Second, "Config.ElectionTimeout")
	flag.StringVar(&o.dir, "dir", "", "where the members' directories are made, and removed; default: the temporary directory")
	flag.BoolVar(&o.logs, "logs", false, "show each round, and what the members log")
	flag.StringVar(&o.role, "role", "", "internal: member")
	flag.StringVar(&o.id, "id", "", "internal: the member's id")
	flag.StringVar(&o.table, "table", "", "internal: id=addr of the members")
	flag.Uint64Var(&o.generation, "generation", 0, "internal: how often the member was started")
	flag.Parse()
	run := measure
	if o.role == "member" {
		run = member
	}
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}
