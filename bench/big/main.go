// Command big measures what large stores do: log truncation, the feed of a
// follower, restarts, memory, the removal of history. Members are real: TCP on loopback, and files in
// -dir, every write synced. It prints one line per result, with its bar.
//
//	go run ./big -run truncate,feed,restart -size 2GB
//	go run ./big -run memory -size 10GB -members 1
//	go run ./big -run history -size 100MB
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/replkv/replkv"
)

// options are the flags.
type options struct {
	run     string
	dir     string
	size    bytesFlag // of the values
	value   int
	callers int
	members int
	window  time.Duration // how long a load is measured
	kills   int
	down    time.Duration // how long a member is down between
	rate    bytesFlag     // of the limited feed; 0 is the library's default
	cache   bytesFlag
	logs    bool
	heap    string // file for a heap profile of the peak

	role, id, table string // of a child process

	three *cluster // the filled members that scenarios share
}

func (o *options) keys() int { return max(1, int(o.size)/o.value) }

func main() {
	o := options{size: 2e9}
	flag.StringVar(&o.run, "run", "truncate,feed,restart", "scenarios, comma separated: truncate, feed, restart, memory, peak, history")
	flag.StringVar(&o.dir, "dir", "", "where the members' directories are made, and removed; default: the temporary directory")
	flag.Var(&o.size, "size", "bytes of values to fill the store with; k, M, G are powers of 1000")
	flag.IntVar(&o.value, "value", 1000, "bytes of a value; they are random, so they do not compress")
	flag.IntVar(&o.callers, "callers", 64, "callers of the load, each with one call at a time")
	flag.IntVar(&o.members, "members", 3, "members of the memory scenario")
	flag.DurationVar(&o.window, "window", 30*time.Second, "how long a load is measured")
	flag.IntVar(&o.kills, "kills", 5, "restarts of each kind")
	flag.DurationVar(&o.down, "down", 0, "how long a member is down before it is started again")
	flag.Var(&o.rate, "rate", "Config.SnapshotRateBytes of the limited feed; 0: its default, -1: no limit")
	flag.Var(&o.cache, "cache", "Config.CacheBytes; 0: its default")
	flag.BoolVar(&o.logs, "logs", false, "show what the members log")
	flag.StringVar(&o.heap, "heap", "", "peak: a heap profile, taken under load, goes to this file")
	flag.StringVar(&o.role, "role", "", "internal: member")
	flag.StringVar(&o.id, "id", "", "internal: the member's id")
	flag.StringVar(&o.table, "table", "", "internal: id=addr of the first members")
	flag.Parse()
	err := error(nil)
	if o.role == "member" {
		err = child(&o)
	} else {
		err = measure(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "big:", err)
		os.Exit(1)
	}
}

var scenarios = map[string]func(*options) error{
	"truncate": truncate, "feed": feed, "restart": restart, "memory": memory, "peak": peak, "history": history,
}

func measure(o *options) (err error) {
	if o.dir, err = os.MkdirTemp(o.dir, "big-"); err != nil {
		return err
	}
	defer func() {
		if o.three != nil {
			err = errors.Join(err, o.three.close())
		}
		err = errors.Join(err, os.RemoveAll(o.dir))
	}()
	// Several copies exist at a time: members, a fourth one, and what compaction replaces.
	if free, need := freeBytes(o.dir), int64(o.size)*int64(o.members+3); free < need {
		return fmt.Errorf("%s has %d bytes free, %d are needed for -size %s", o.dir, free, need, &o.size)
	}
	for name := range strings.SplitSeq(o.run, ",") {
		fn := scenarios[name]
		if fn == nil {
			return fmt.Errorf("no scenario %q", name)
		}
		if err := fn(o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func freeBytes(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// result prints one line.
func result(scenario, format string, args ...any) {
	fmt.Printf("%-9s %s\n", scenario, fmt.Sprintf(format, args...))
}

// config is what all members share.
func (o *options) config() replkv.Config {
	return replkv.Config{InsecurePeers: true, CacheBytes: int64(o.cache), Logger: o.logger()}
}

// bytesFlag is a number of bytes with a unit.
type bytesFlag int64

func (b *bytesFlag) String() string { return strconv.FormatInt(int64(*b), 10) }

func (b *bytesFlag) Set(s string) error {
	s = strings.TrimSuffix(s, "B")
	unit := int64(1)
	for i, suffix := range []string{"k", "M", "G"} {
		if t, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = t, []int64{1e3, 1e6, 1e9}[i]
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	*b = bytesFlag(v * float64(unit))
	return err
}
