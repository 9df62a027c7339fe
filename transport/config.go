package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/peerpb"
)

const (
	// MaxMessageBytes bounds every message sent. It is the limit of a plain gRPC
	// server (4 MiB) minus a margin for what frames an entry.
	MaxMessageBytes = 4<<20 - 64<<10
	// MaxEntryBytes bounds Data and Extensions of one raft entry: what is larger
	// could never be replicated.
	MaxEntryBytes = MaxMessageBytes - 4<<10
	// UnappliedLimit is how many bytes received and not yet applied make a member
	// hold back AppendEntries with entries.
	UnappliedLimit = 64 << 20
)

// Config says who this member is and how it reaches the others. New copies it.
type Config struct {
	ID   string // this member's id, as in raft's configuration
	Addr string // what peers dial

	// The identity that goes with every RPC and is checked on receipt.
	Cluster     [16]byte
	Group       uint64
	Incarnation [16]byte
	Since       uint64
	Starts      []Start

	// Dial opens a connection to addr. The default dials TCP, resolves the name
	// anew each time and finds dead connections by TCP means.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// DialOptions come after the transport's own and win over them.
	DialOptions []grpc.DialOption

	// TLS is used for dialing, and its ClientCAs (if nil, its RootCAs) are what
	// peers' certificates are checked against inside the handlers, whatever else
	// the server accepts. With neither pool, the server must have verified them.
	TLS *tls.Config
	// PeerID returns the member id that a certificate is for. The default takes
	// a certificate for each of its DNS names.
	PeerID func(*x509.Certificate) (string, error)
	// Insecure serves peers without a certificate, and peers that send no
	// identity at all (a plain Jille node). A wrong identity is refused always.
	Insecure bool

	// Resolve finds a member's address; the address that raft passes is the
	// fallback. It must not block. May be nil.
	Resolve func(id string) (addr string, ok bool)
	// CheckPeer has the last word on a peer whose cluster, group and addressee
	// are right, be it the caller of an RPC or the one who answers ours: a wrong
	// directory must neither ask nor vote. It runs for each RPC, and once for a
	// stream, which lives ten seconds at most (a snapshot's longer). It must not
	// block, and may be nil.
	CheckPeer func(Identity) error
	// CheckVote decides whether a request to vote, or to start an election
	// (TimeoutNow, lastLogIndex 0), reaches raft. It must not block; nil: all do.
	CheckVote func(lastLogIndex uint64) error
	// Handler serves the Peer service; nil: UNAVAILABLE.
	Handler Handler
	// Unapplied returns the bytes received and not yet applied; while they exceed
	// UnappliedLimit, AppendEntries with entries wait. May be nil.
	Unapplied func() int64
	// Pace returns how long the answer to entries whose append took so long is held
	// back, 0 for not at all: the leader then sends less, and if this member is needed
	// for a quorum, accepts less. Heartbeats, and entries that are committed already,
	// are never held back. May be nil.
	Pace func(took time.Duration) time.Duration
	// OverQuota is what a leader tells with each ReadIndex and Forward that it has
	// answered, and HearQuota is told what another leader said. They must not block;
	// nil: it is not, and nobody listens.
	OverQuota func() bool
	HearQuota func(over bool)

	Timeouts Timeouts
	Logger   *slog.Logger // nil: silent
}

// Timeouts bound the RPCs; zero means the default. A caller's ctx that ends
// sooner wins.
type Timeouts struct {
	// Heartbeat bounds one heartbeat and, being the RPC that finds dead peers,
	// should not exceed raft's HeartbeatTimeout by much. Default 1 s.
	Heartbeat time.Duration
	// Vote bounds RequestVote and RequestPreVote. Default 2 s: an election is
	// over by then.
	Vote time.Duration
	// Append bounds each part of an AppendEntries, the receiver's fsync
	// included. Default 10 s.
	Append time.Duration
	// TimeoutNow bounds the request to start an election. Default 2 s: while it
	// hangs, raft refuses all writes.
	TimeoutNow time.Duration
	// SnapshotStall ends an InstallSnapshot of which raft read no byte for so
	// long. The sender waits twice as long: it sees progress in steps of a quarter
	// of the receiver's flow control window, at most 4 MiB. Default 15 s.
	SnapshotStall time.Duration
	// SnapshotFinish bounds the time from the last byte to the answer: the
	// receiver syncs and restores meanwhile. Default 10 min.
	SnapshotFinish time.Duration
	// Confirm bounds a Confirm. Default 1 s.
	Confirm time.Duration
	// Request bounds the other requests, but for a Change whose ctx ends later.
	// Default 10 s.
	Request time.Duration
}

// Handler serves the Peer service. Its methods run on gRPC's goroutines, many
// at once, and must end soon after ctx is done; Close ends their ctx. Errors
// travel with package internal/wireerr.
type Handler interface {
	// Confirm returns this member's current term and whether it is a voter of
	// its latest configuration.
	Confirm(ctx context.Context, term uint64) (currentTerm uint64, voter bool, err error)
	// ReadIndex, on the leader, returns a read index confirmed after the call
	// began, and the term it was confirmed in.
	ReadIndex(ctx context.Context) (index, term uint64, err error)
	// Forward, on the leader, commits a batch of the caller's and returns its encoded
	// result and the index of its entry. It owns batch.
	Forward(ctx context.Context, from Identity, batch []byte) (result []byte, index uint64, err error)
	// Hello tells anybody with a valid certificate who this is. Its caller may be
	// of another cluster, or of none yet.
	Hello(ctx context.Context) (*peerpb.HelloResponse, error)
	// Join makes the caller, which is of no cluster yet, a member. Any member
	// serves it.
	Join(ctx context.Context, from Identity, m *peerpb.JoinRequest) (*peerpb.JoinResponse, error)
	// Change, on the leader, does what an operator asked another member for.
	Change(ctx context.Context, m *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error)
	// Leases, on the leader, tells of leases, or keeps them alive, after a
	// confirmation that it leads.
	Leases(ctx context.Context, m *peerpb.LeasesRequest) (*peerpb.LeasesResponse, error)
}

// Identity is what a peer says of itself with each RPC and each answer.
type Identity struct {
	Cluster     [16]byte // zero: of none yet
	Group       uint64
	From, To    string   // To is "" where the caller knows an address only
	Addr        string   // where From is to be dialed
	Incarnation [16]byte // of From's directory
	Since       uint64   // index of a configuration by which that directory was in
	Starts      []Start  // of From's directory, rising; the last is the present one
}

// Start is one time that a member's directory was opened.
type Start struct {
	Number uint64
	Boot   uint64 // random
}

// withDefaults returns a checked copy with the defaults filled in.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.ID == "":
		return c, fmt.Errorf("%w: transport needs an ID", kv.ErrInvalidConfig)
	case c.Addr == "":
		return c, fmt.Errorf("%w: transport needs an Addr", kv.ErrInvalidConfig)
	case c.TLS == nil && !c.Insecure:
		return c, fmt.Errorf("%w: set PeerTLS, or InsecurePeers if the network is trusted", kv.ErrInvalidConfig)
	}
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OverQuota == nil {
		c.OverQuota = func() bool { return false }
	}
	if c.HearQuota == nil {
		c.HearQuota = func(bool) {}
	}
	c.Timeouts = c.Timeouts.withDefaults()
	return c, nil
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&t.Heartbeat, time.Second)
	set(&t.Vote, 2*time.Second)
	set(&t.Append, 10*time.Second)
	set(&t.TimeoutNow, 2*time.Second)
	set(&t.SnapshotStall, 15*time.Second)
	set(&t.SnapshotFinish, 10*time.Minute)
	set(&t.Confirm, time.Second)
	set(&t.Request, 10*time.Second)
	return t
}
