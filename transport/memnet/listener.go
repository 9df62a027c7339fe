package memnet

import (
	"net"
	"sync"
	"syscall"
)

// backlogLen is how many dialed connections wait to be accepted; further dials
// wait.
const backlogLen = 64

type listener struct {
	net     *Network
	addr    string
	backlog chan *conn
	once    sync.Once
	closed  chan struct{}
}

func newListener(n *Network, addr string) *listener {
	return &listener{net: n, addr: addr, backlog: make(chan *conn, backlogLen), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.isClosed() {
		select {
		case c := <-l.backlog:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, opError("accept", l.addr, net.ErrClosed)
}

// Close ends Accept and refuses the connections that nobody accepted.
func (l *listener) Close() error {
	err := opError("close", l.addr, net.ErrClosed)
	l.once.Do(func() {
		err = nil
		l.net.update(func() {
			if l.net.mu.listeners[l.addr] == l {
				delete(l.net.mu.listeners, l.addr)
			}
		})
		close(l.closed)
		for {
			select {
			case c := <-l.backlog:
				c.link.reset(syscall.ECONNREFUSED)
			default:
				return
			}
		}
	})
	return err
}

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

func (l *listener) Addr() net.Addr { return Addr(l.addr) }
