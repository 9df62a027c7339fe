// Package memnet is an in-memory network for tests: listeners, dialers and
// stream connections between named hosts, with cuts (in one direction, too),
// delays, jitter, limits of bandwidth, resets and dead hosts. It stands in for TCP under real gRPC.
//
// It starts no goroutine and waits on channels and timers only, so that all of
// it runs in a testing/synctest bubble, in virtual time. Buffers are bounded: a
// writer whose reader does not read blocks.
//
// A cut holds bytes back, as TCP does: the connection hangs, and after Heal goes
// on where it was. A dial over a cut hangs until its ctx ends. What travels with
// the bytes (the end of a stream, a reset by a dying host) is held back as well.
package memnet

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Network connects hosts. A host is the part of an address before the colon; it
// comes into being by being named. The methods may be called at any time.
type Network struct {
	mu struct {
		sync.Mutex
		listeners map[string]*listener
		paths     map[path]pathState
		dead      map[string]bool
		links     []*link // open connections, in the order in which they were made
		nextPort  int
		changed   chan struct{} // closed and replaced when any of the above may matter to a dial
	}
}

// A path is one direction between two hosts.
type path struct{ from, to string }

type pathState struct {
	cut    bool
	delay  time.Duration
	jitter time.Duration
	rate   int // bytes per second; 0: no limit
}

// New returns a network without faults.
func New() *Network {
	n := &Network{}
	n.mu.listeners = make(map[string]*listener)
	n.mu.paths = make(map[path]pathState)
	n.mu.dead = make(map[string]bool)
	n.mu.changed = make(chan struct{})
	return n
}

// Listen listens at addr, "host" or "host:port".
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.mu.dead[host(addr)]:
		return nil, opError("listen", addr, syscall.ENETDOWN)
	case n.mu.listeners[addr] != nil:
		return nil, opError("listen", addr, syscall.EADDRINUSE)
	}
	l := newListener(n, addr)
	n.mu.listeners[addr] = l
	n.changedLocked()
	return l, nil
}

// Dialer returns a dial function for the host from.
func (n *Network) Dialer(from string) func(ctx context.Context, addr string) (net.Conn, error) {
	from = host(from)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := n.dial(ctx, from, addr)
		if err != nil {
			return nil, opError("dial", addr, err)
		}
		return c, nil
	}
}

// dial waits until a round trip between the hosts is possible.
func (n *Network) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	to := host(addr)
	for {
		n.mu.Lock()
		there, back, changed := n.mu.paths[path{from, to}], n.mu.paths[path{to, from}], n.mu.changed
		dead := n.mu.dead[from]
		n.mu.Unlock()
		switch {
		case dead:
			return nil, syscall.ENETDOWN
		case there.cut || back.cut:
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, dialError(ctx)
			}
		}
		if err := sleep(ctx, there.delay+back.delay); err != nil {
			return nil, err
		}
		return n.connect(ctx, from, addr)
	}
}

// connect makes the connection and queues it with the listener.
func (n *Network) connect(ctx context.Context, from, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.mu.listeners[addr]
	if l == nil || n.mu.dead[from] || n.mu.dead[host(addr)] {
		n.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	}
	n.mu.nextPort++
	k := n.newLinkLocked(fmt.Sprintf("%s:%d", from, 49152+n.mu.nextPort), addr)
	n.mu.Unlock()
	select {
	case l.backlog <- k.ends[1]:
		if !l.isClosed() {
			return k.ends[0], nil
		}
	case <-l.closed:
	case <-ctx.Done():
		k.reset(syscall.ECONNABORTED)
		return nil, dialError(ctx)
	}
	k.reset(syscall.ECONNREFUSED)
	return nil, syscall.ECONNREFUSED
}

// Cut holds back all bytes from one host to another, also of connections made
// later, until Heal.
func (n *Network) Cut(from, to string) {
	n.update(func() { n.setLocked(from, to, func(s *pathState) { s.cut = true }) })
}

// Partition cuts all paths between hosts of different groups, both ways, and
// restores those within a group. Hosts in no group keep what they have.
func (n *Network) Partition(groups ...[]string) {
	n.update(func() {
		for i, a := range groups {
			for j, b := range groups {
				for _, from := range a {
					for _, to := range b {
						n.setLocked(from, to, func(s *pathState) { s.cut = i != j })
					}
				}
			}
		}
	})
}

// Isolate cuts host off from all hosts that were named so far or listen.
func (n *Network) Isolate(h string) {
	n.update(func() {
		for _, other := range n.hostsLocked() {
			if other != host(h) {
				n.setLocked(h, other, func(s *pathState) { s.cut = true })
				n.setLocked(other, h, func(s *pathState) { s.cut = true })
			}
		}
	})
}

// Heal ends all cuts; what they held back arrives. Delays, jitter and rates stay.
func (n *Network) Heal() {
	n.update(func() {
		for p := range n.mu.paths {
			n.setLocked(p.from, p.to, func(s *pathState) { s.cut = false })
		}
	})
}

// Delay makes all bytes written from now on arrive d later.
func (n *Network) Delay(from, to string, d time.Duration) {
	n.update(func() { n.setLocked(from, to, func(s *pathState) { s.delay = d }) })
}

// Jitter makes what is written from now on arrive up to d later than Delay says, by
// chance. Bytes of one connection stay in order, as in TCP.
func (n *Network) Jitter(from, to string, d time.Duration) {
	n.update(func() { n.setLocked(from, to, func(s *pathState) { s.jitter = d }) })
}

// Rate lets each connection carry so many bytes per second in this direction; 0: any
// number.
func (n *Network) Rate(from, to string, bytes int) {
	n.update(func() { n.setLocked(from, to, func(s *pathState) { s.rate = bytes }) })
}

// Drop resets the connections between two hosts, at both ends.
func (n *Network) Drop(a, b string) {
	for _, k := range n.linksOf(a) {
		if k.between(host(a), host(b)) {
			k.reset(syscall.ECONNRESET)
		}
	}
}

// Kill ends a host, as SIGKILL ends a process: its listeners close, its ends of
// connections fail at once, the other ends learn it as soon as no cut is between
// them. It can neither listen nor dial until Revive.
func (n *Network) Kill(h string) {
	h = host(h)
	var closing []*listener
	n.update(func() {
		n.mu.dead[h] = true
		for addr, l := range n.mu.listeners {
			if host(addr) == h {
				closing = append(closing, l)
			}
		}
	})
	for _, l := range closing {
		_ = l.Close()
	}
	for _, k := range n.linksOf(h) {
		k.kill(h)
	}
}

// Revive lets a killed host listen and dial again.
func (n *Network) Revive(h string) {
	n.update(func() { delete(n.mu.dead, host(h)) })
}

func (n *Network) update(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	n.changedLocked()
}

func (n *Network) changedLocked() {
	close(n.mu.changed)
	n.mu.changed = make(chan struct{})
}

// setLocked changes a path, and the open connections that use it.
func (n *Network) setLocked(from, to string, change func(*pathState)) {
	p := path{host(from), host(to)}
	s := n.mu.paths[p]
	change(&s)
	n.mu.paths[p] = s
	for _, k := range n.mu.links {
		k.set(p, s)
	}
}

func (n *Network) hostsLocked() []string {
	seen := make(map[string]bool)
	for p := range n.mu.paths {
		seen[p.from], seen[p.to] = true, true
	}
	for addr := range n.mu.listeners {
		seen[host(addr)] = true
	}
	for _, k := range n.mu.links {
		seen[k.ends[0].host], seen[k.ends[1].host] = true, true
	}
	var hosts []string
	for h := range seen {
		hosts = append(hosts, h)
	}
	return hosts
}

func (n *Network) linksOf(h string) (links []*link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.mu.links {
		if k.ends[0].host == host(h) || k.ends[1].host == host(h) {
			links = append(links, k)
		}
	}
	return links
}

func (n *Network) forget(k *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.mu.links, k); i >= 0 {
		n.mu.links = slices.Delete(n.mu.links, i, i+1)
	}
}

// Conns returns how many connections are open: for leak checks.
func (n *Network) Conns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.mu.links)
}

func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return addr
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return dialError(ctx)
	}
}

// dialError is what net.Dialer says of a ctx that ended.
func dialError(ctx context.Context) error {
	if ctx.Err() == context.DeadlineExceeded {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}

func opError(op, addr string, err error) error {
	return &net.OpError{Op: op, Net: "mem", Addr: Addr(addr), Err: err}
}

// Addr is the address of a host on the network.
type Addr string

// Network returns "mem".
func (Addr) Network() string { return "mem" }

func (a Addr) String() string { return string(a) }
