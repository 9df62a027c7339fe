//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// electionTimeout of the members: what is shorter is a short pause.
	electionTimeout = 500 * time.Millisecond
	// writeDeadline of the members: no fault but a broken disk lasts so long.
	writeDeadline = 5 * time.Second
	port          = "7000"
)

// lab is a cluster on machines that are made of namespaces and images.
type lab struct {
	t      *testing.T
	name   string
	dir    string
	subnet string // "10.1.2", a /24
	nodes  []*node
	lie    bool        // see member
	over   atomic.Bool // it is being removed: nothing starts any more
	trouble
}

var labs atomic.Int32

// needRoot skips where a lab cannot be made.
func needRoot(t *testing.T) {
	t.Helper()
	skip := func(why any) {
		fmt.Printf("SKIPPED: %s: %v\n", t.Name(), why) // also without -v
		t.Skip(why)
	}
	if os.Geteuid() != 0 {
		skip("it makes network namespaces and mounts disk images, which needs root")
	}
	if err := missing("ip", "nsenter", "mount", "mkfs.ext4", "losetup"); err != nil {
		skip(fmt.Errorf("%w (packages iproute2, util-linux, e2fsprogs)", err))
	}
}

// newLab makes machines and starts a member on each. All of it is gone when the
// test ends.
func newLab(t *testing.T, size int, lie bool) *lab {
	t.Helper()
	if err := sweepDead(); err != nil {
		t.Logf("removing what dead runs left: %v", err)
	}
	l := &lab{t: t, lie: lie, name: fmt.Sprintf("ck%d%c", os.Getpid(), 'a'+rune(labs.Add(1)-1)%26), trouble: trouble{marked: map[string]int{}}}
	l.dir = labDir(l.name)
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.sweepAtEnd()
	started, err := startTime(fmt.Sprint(os.Getpid()))
	if err = errors.Join(err, os.WriteFile(filepath.Join(l.dir, "started"), []byte(started), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := l.bridge(); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		n, err := l.newNode(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		l.nodes = append(l.nodes, n)
	}
	for _, n := range l.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	l.waitReady(t, 30*time.Second)
	return l
}

// sweepAtEnd removes everything when the test ends, and when somebody ends it.
func (l *lab) sweepAtEnd() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "%v: removing %s\n", s, l.name)
			l.over.Store(true)
			if err := sweep(l.name); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(1)
		}
	}()
	l.t.Cleanup(func() {
		signal.Stop(signals)
		close(done)
		if l.t.Failed() {
			l.keepLogs()
		}
		for _, n := range l.nodes {
			n.close()
		}
		if err := sweep(l.name); err != nil {
			l.t.Error(err)
		}
	})
}

// keepLogs saves the members' logs of a failed test.
func (l *lab) keepLogs() {
	dir, err := os.MkdirTemp("", "chaos-logs-")
	for _, n := range l.nodes {
		var b []byte
		if b, err = os.ReadFile(n.log); err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(n.log)), b, 0o644)
		}
	}
	l.t.Logf("the members' logs are in %s (%v)", dir, err)
}

// bridge makes the network that all are on, the clients at address 254.
func (l *lab) bridge() error {
	pid := os.Getpid()
	used, err := run("ip", "-o", "route")
	if err != nil {
		return err
	}
	for i := range 256 { // of 10.64.0.0/10, one that nobody has
		if l.subnet = fmt.Sprintf("10.%d.%d", 64+pid%64, (pid/64+i)%256); !strings.Contains(used, l.subnet+".") {
			break
		}
	}
	for _, args := range []string{
		"link add NAMEb type bridge",
		"addr add NET.254/24 dev NAMEb",
		"link set NAMEb up",
	} {
		if err := l.ip(args); err != nil {
			return err
		}
	}
	return nil
}

// ip runs the tool of that name.
func (l *lab) ip(args string) error {
	args = strings.NewReplacer("NAME", l.name, "NET", l.subnet).Replace(args)
	_, err := run("ip", strings.Fields(args)...)
	return err
}

// newNode makes a machine: a namespace with an address, and a disk.
func (l *lab) newNode(id int) (*node, error) {
	n := &node{l: l, id: id, ns: fmt.Sprintf("%sn%d", l.name, id), addr: fmt.Sprintf("%s.%d:%s", l.subnet, id, port),
		image: filepath.Join(l.dir, fmt.Sprintf("image%d", id)), mnt: filepath.Join(l.dir, fmt.Sprintf("mnt%d", id)),
		log: filepath.Join(l.dir, fmt.Sprintf("member%d.log", id)), explains: map[string]bool{}}
	for _, args := range []string{
		"netns add NAMEnID",
		"link add NAMEvID type veth peer name eth0 netns NAMEnID",
		"link set NAMEvID master NAMEb up",
		"-n NAMEnID addr add NET.ID/24 dev eth0",
		"-n NAMEnID link set eth0 up",
		"-n NAMEnID link set lo up",
	} {
		if err := l.ip(strings.ReplaceAll(args, "ID", fmt.Sprint(id))); err != nil {
			return nil, err
		}
	}
	// The delay sends packets another way than they come back.
	if _, err := n.inside("sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/eth0/rp_filter"); err != nil {
		return nil, err
	}
	if err := n.makeDisk(); err != nil {
		return nil, err
	}
	return n, n.dial()
}
