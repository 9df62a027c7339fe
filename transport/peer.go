package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// A lane is a connection of its own, so that nothing waits behind a large
// append, and an append not behind a snapshot.
type lane int

const (
	laneControl  lane = iota // heartbeats, votes, the Peer service
	laneLog                  // AppendEntries
	laneSnapshot             // InstallSnapshot
	laneCount
)

// How many RPCs in a row may miss their deadline before the connection is given
// up and dialed anew: after a long cut TCP alone would wait for its next
// retransmission, up to two minutes. A unary RPC may be late because raft's
// main loop is busy; an append or a snapshot that missed its deadline has
// waited long already.
const (
	missesUnary  = 3
	missesStream = 1
)

const (
	// laneIdle closes a connection that carried nothing for so long; the next
	// RPC dials again.
	laneIdle = time.Minute
	// peerIdle forgets a peer that nobody called for so long: it was removed.
	peerIdle = 10 * time.Minute
)

// answerWindow is how many bytes of answers may be under way to this member.
const answerWindow = 1 << 20

// A peer holds what this member keeps of another: connections and the open
// append stream. Peers are known by id; when an id's address changes, all that
// goes to the old one is closed.
type peer struct {
	t       *Transport
	id      string
	unnamed bool // known by its address only; id is that
	ahead   *ahead

	mu struct {
		sync.Mutex // never held across an RPC
		addr       string
		used       time.Time
		closed     bool
		conns      [laneCount]*conn
		stream     *appendStream // idle and ready for use; nil while one is in use
	}
}

// peer returns the peer of that id, at the address that Config.Resolve knows,
// else at addr.
func (t *Transport) peer(id, addr string) (*peer, error) {
	unnamed := id == ""
	if unnamed {
		id = addr
	} else if t.cfg.Resolve != nil {
		if a, ok := t.cfg.Resolve(id); ok && a != "" {
			addr = a
		}
	}
	now := time.Now()
	t.mu.Lock()
	if t.mu.closed {
		t.mu.Unlock()
		return nil, raft.ErrTransportShutdown
	}
	p, ok := t.mu.peers[id]
	var gone []*peer
	if !ok {
		p = &peer{t: t, id: id, unnamed: unnamed, ahead: newAhead(t.cfg.Timeouts.Heartbeat / 4)}
		t.mu.peers[id] = p
		gone = t.forgetLocked(now)
	}
	old := p.touch(addr, now)
	t.mu.Unlock()
	if old != nil {
		p.ahead.forget()
	}
	closeConns(old)
	for _, p := range gone {
		p.close()
	}
	return p, nil
}

// forgetLocked takes out the peers that nobody called for long. It runs when a
// peer is new, so the map is bounded by the members of the last while.
func (t *Transport) forgetLocked(now time.Time) (gone []*peer) {
	for id, p := range t.mu.peers {
		p.mu.Lock()
		if !p.mu.used.IsZero() && now.Sub(p.mu.used) > peerIdle {
			delete(t.mu.peers, id)
			gone = append(gone, p)
		}
		p.mu.Unlock()
	}
	return gone
}

// touch notes that the peer is in use at addr, and returns what is to be closed
// because the address changed.
func (p *peer) touch(addr string, now time.Time) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.used = now
	if p.mu.addr == addr {
		return nil
	}
	p.mu.addr = addr
	return p.takeConnsLocked()
}

// takeConnsLocked empties the lanes. Closing happens without the lock.
func (p *peer) takeConnsLocked() []*conn {
	if st := p.mu.stream; st != nil {
		p.mu.stream = nil
		st.close()
	}
	conns := p.mu.conns // a copy
	p.mu.conns = [laneCount]*conn{}
	return conns[:]
}

func (p *peer) close() {
	p.mu.Lock()
	p.mu.closed = true
	conns := p.takeConnsLocked()
	p.mu.Unlock()
	closeConns(conns)
}

func closeConns(conns []*conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// conn returns the connection of a lane. It dials at the first RPC, not here.
func (p *peer) conn(l lane) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, raft.ErrTransportShutdown
	}
	if c := p.mu.conns[l]; c != nil {
		return c, nil
	}
	c, err := newConn(p.mu.addr, p.t.cfg.Dial, p.t.dialOptions(p))
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s: %w", p.id, p.mu.addr, err)
	}
	p.mu.conns[l] = c
	return c, nil
}

// answered notes that c is alive: any answer shows it, be it an error.
func (p *peer) answered(c *conn) {
	p.mu.Lock()
	c.misses = 0
	p.mu.Unlock()
}

// missed notes that an RPC on c missed its own deadline (not the shorter one of
// a caller's ctx), and gives c up after limit of them.
func (p *peer) missed(l lane, c *conn, limit int) {
	p.mu.Lock()
	c.misses++
	reset := c.misses >= limit && p.mu.conns[l] == c
	if reset {
		p.mu.conns[l] = nil
	}
	p.mu.Unlock()
	if reset {
		p.t.cfg.Logger.Info("peer does not answer; dialing anew", "peer", p.id)
		c.Close()
	}
}

// dialOptions are the options of a connection to a peer.
func (t *Transport) dialOptions(p *peer) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if t.cfg.TLS != nil {
		creds = credentials.NewTLS(t.clientTLS(p))
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(laneIdle),
		// A fixed window also ends gRPC's estimates of the bandwidth, which cost a
		// ping for nearly each answer.
		grpc.WithInitialWindowSize(answerWindow),
		grpc.WithInitialConnWindowSize(answerWindow),
		// The default MaxDelay of 120 s would delay the return of a member.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
	if !p.unnamed {
		opts = append(opts, grpc.WithChainUnaryInterceptor(p.checkUnary))
	}
	return append(opts, t.cfg.DialOptions...)
}

// checkUnary lets the answer of an RPC count only if it is the right member's.
func (p *peer) checkUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if needsNoName(method) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var header metadata.MD
	if err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Header(&header))...); err != nil {
		return err
	}
	return p.t.checkAnswer(p.id, header)
}

// clientTLS is Config.TLS for a connection to a peer: the server must show a
// certificate for that member, or, if only its address is known, one of any
// member: whose, is checked with the answer.
func (t *Transport) clientTLS(p *peer) *tls.Config {
	cfg := t.cfg.TLS.Clone()
	if t.cfg.PeerID == nil && !p.unnamed {
		cfg.ServerName = p.id
		return cfg
	}
	// crypto/tls can only check names; the chain is verified here instead.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server shows no certificate")
		}
		if err := verifyChain(cs.PeerCertificates, t.cfg.TLS.RootCAs); err != nil {
			return err
		}
		if p.unnamed {
			return nil
		}
		return t.certificateIsFor(cs.PeerCertificates[0], p.id)
	}
	return cfg
}
