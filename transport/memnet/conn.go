package memnet

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferBytes bounds what one direction of a connection holds.
const bufferBytes = 128 << 10

// A link is one connection: two ends, and a half for each direction. halves[i]
// carries what ends[i] writes.
type link struct {
	net    *Network
	ends   [2]*conn
	mu     sync.Mutex // protects the halves; never held while waiting
	halves [2]half
}

// A half is one direction.
//
// Invariant: bytes is the sum of the segments' lengths, at most bufferBytes;
// segments become due in the order they were written.
type half struct {
	pathState
	segments []segment
	bytes    int
	ended    bool  // the writer closed; the reader sees EOF after the segments
	failed   error // the writer's host died; the reader sees it when there is no cut
	random   *rand.Rand

	readable, writable chan struct{} // a token each: look again
}

type segment struct {
	data []byte
	due  time.Time
}

func (n *Network) newLinkLocked(local, remote string) *link {
	k := &link{net: n}
	addrs := [2]string{local, remote}
	for i := range k.ends {
		k.ends[i] = &conn{
			link: k, i: i, host: host(addrs[i]), local: Addr(addrs[i]), remote: Addr(addrs[1-i]),
			reading: make(chan struct{}, 1), writing: make(chan struct{}, 1), done: make(chan struct{}),
			readDeadline: newDeadline(), writeDeadline: newDeadline(),
		}
	}
	for i := range k.halves {
		h := &k.halves[i]
		h.pathState = n.mu.paths[path{k.ends[i].host, k.ends[1-i].host}]
		h.random = rand.New(rand.NewPCG(uint64(n.mu.nextPort), uint64(i))) // the same in each run
		h.readable, h.writable = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	n.mu.links = append(n.mu.links, k)
	return k
}

func (k *link) between(a, b string) bool {
	x, y := k.ends[0].host, k.ends[1].host
	return x == a && y == b || x == b && y == a
}

// set changes the path of the halves that go along p.
func (k *link) set(p path, s pathState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.halves {
		if (path{k.ends[i].host, k.ends[1-i].host}) == p {
			k.halves[i].pathState = s
		}
	}
	k.wakeLocked()
}

func (k *link) wakeLocked() {
	for i := range k.halves {
		token(k.halves[i].readable)
		token(k.halves[i].writable)
	}
}

func token(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// reset fails both ends.
func (k *link) reset(err error) {
	for _, c := range k.ends {
		c.fail(err)
	}
	k.net.forget(k)
}

// kill fails the ends at the host, and lets the other ones know along the path.
func (k *link) kill(h string) {
	for i, c := range k.ends {
		if c.host == h {
			c.fail(syscall.ENETDOWN)
			k.mu.Lock()
			k.halves[i].failed = syscall.ECONNRESET
			k.wakeLocked()
			k.mu.Unlock()
		}
	}
	k.forgetIfDone()
}

// forgetIfDone drops a connection of which no end is in use.
func (k *link) forgetIfDone() {
	for _, c := range k.ends {
		select {
		case <-c.done:
		default:
			return
		}
	}
	k.net.forget(k)
}

// conn is one end. It may be used by many goroutines; reads queue among
// themselves, and so do writes.
type conn struct {
	link          *link
	i             int // which end
	host          string
	local, remote Addr

	reading, writing            chan struct{} // locks that one can wait for with a deadline
	readDeadline, writeDeadline *deadline

	once sync.Once
	err  error // why done is closed
	done chan struct{}
}

func (c *conn) in() *half  { return &c.link.halves[1-c.i] }
func (c *conn) out() *half { return &c.link.halves[c.i] }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.locked(c.reading, c.readDeadline, func() (int, error) { return c.read(b) })
	if err != nil && err != io.EOF {
		err = opError("read", string(c.remote), err)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.locked(c.writing, c.writeDeadline, func() (int, error) { return c.write(b) })
	if err != nil {
		err = opError("write", string(c.remote), err)
	}
	return n, err
}

func (c *conn) locked(lock chan struct{}, d *deadline, f func() (int, error)) (int, error) {
	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
		return f()
	case <-d.passed():
		return 0, os.ErrDeadlineExceeded
	case <-c.done:
		return 0, c.err
	}
}

func (c *conn) read(b []byte) (int, error) {
	h := c.in()
	for {
		if err := c.ended(c.readDeadline); err != nil {
			return 0, err
		}
		n, wait, err := c.tryRead(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if err := c.wait(h.readable, wait, c.readDeadline); err != nil {
			return 0, err
		}
	}
}

// tryRead takes what has arrived; wait > 0 says when more will have.
func (c *conn) tryRead(b []byte) (n int, wait time.Duration, err error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	h := c.in()
	if h.cut {
		return 0, 0, nil
	}
	if h.failed != nil {
		return 0, 0, h.failed
	}
	now := time.Time{}
	for n < len(b) && len(h.segments) > 0 {
		s := &h.segments[0]
		if !s.due.IsZero() {
			if now.IsZero() {
				now = time.Now()
			}
			if d := s.due.Sub(now); d > 0 {
				wait = d
				break
			}
		}
		m := copy(b[n:], s.data)
		n += m
		if s.data = s.data[m:]; len(s.data) == 0 {
			h.segments[0] = segment{}
			h.segments = h.segments[1:]
		}
	}
	if n > 0 {
		h.bytes -= n
		token(h.writable)
	} else if h.ended && len(h.segments) == 0 && len(b) > 0 {
		err = io.EOF
	}
	return n, wait, err
}

func (c *conn) write(b []byte) (n int, err error) {
	for {
		if err := c.ended(c.writeDeadline); err != nil {
			return n, err
		}
		m, wait, err := c.tryWrite(b[n:])
		if n += m; n == len(b) || err != nil {
			return n, err
		}
		if err := c.wait(c.out().writable, wait, c.writeDeadline); err != nil {
			return n, err
		}
	}
}

// tryWrite queues what there is room for; wait > 0 says when more may be known. That
// the other end is gone is known only if bytes get there and the answer gets back,
// behind all that was sent before: a connection that fails writes while its reader
// waits for more is none that TCP makes, and grpc, which waits for the reader then,
// tries without a pause until it is woken, so that virtual time stands still.
func (c *conn) tryWrite(b []byte) (n int, wait time.Duration, err error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	h, back := c.out(), c.in()
	if gone := back.ended || back.failed != nil; gone && !h.cut && !back.cut {
		if wait = back.underWayLocked(); wait == 0 {
			return 0, 0, syscall.EPIPE
		}
	}
	if n = min(len(b), bufferBytes-h.bytes); n == 0 {
		return 0, wait, nil
	}
	s := segment{data: append([]byte(nil), b[:n]...)}
	s.due = h.dueLocked(n)
	h.segments = append(h.segments, s)
	h.bytes += n
	token(h.readable)
	return n, wait, nil
}

// underWayLocked says in what time all has arrived that the reader will be given; zero:
// it has.
func (h *half) underWayLocked() time.Duration {
	if k := len(h.segments); k > 0 && h.failed == nil {
		return max(0, time.Until(h.segments[k-1].due))
	}
	return 0
}

// dueLocked says when n bytes that are written now arrive; zero: at once.
func (h *half) dueLocked(n int) (due time.Time) {
	late := h.delay
	if h.jitter > 0 {
		late += time.Duration(h.random.Int64N(int64(h.jitter)))
	}
	if late > 0 || h.rate > 0 {
		due = time.Now().Add(late)
	}
	if k := len(h.segments); k > 0 && due.Before(h.segments[k-1].due) {
		due = h.segments[k-1].due // a shorter delay does not overtake
	}
	if h.rate > 0 {
		due = due.Add(time.Duration(n) * time.Second / time.Duration(h.rate))
	}
	return due
}

// ended returns why the end cannot be used.
func (c *conn) ended(d *deadline) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case <-d.passed():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// wait waits for a token, or for d > 0 to pass.
func (c *conn) wait(ready <-chan struct{}, d time.Duration, dl *deadline) error {
	var timer <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ready:
	case <-timer:
	case <-dl.passed():
		return os.ErrDeadlineExceeded
	case <-c.done:
		return c.err
	}
	return nil
}

// Close ends this end at once; the other one reads what was written, then EOF.
func (c *conn) Close() error {
	c.link.mu.Lock()
	c.out().ended = true
	c.link.mu.Unlock()
	c.fail(net.ErrClosed)
	c.link.forgetIfDone()
	return nil
}

func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
	})
	c.readDeadline.set(time.Time{}) // no timer stays
	c.writeDeadline.set(time.Time{})
	c.link.mu.Lock()
	c.link.wakeLocked()
	c.link.mu.Unlock()
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.readDeadline.set(t)
	c.writeDeadline.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.readDeadline.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeDeadline.set(t)
	return nil
}
