package replkv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/replkv/replkv/internal/hook"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/raftlog"
	"github.com/replkv/replkv/transport"
)

// Config says where a member lives, who it is and whom it works with. A zero
// field is a documented default. Open copies it. ElectionTimeout, WriteDeadline and
// RequestTimeout of more than a year are a year.
type Config struct {
	// Dir holds everything the member must not lose. It is created if it is
	// not there, locked while the store is open, and belongs to one member of
	// one cluster for ever; never put a copy in its place (Restore makes a new
	// cluster). Required.
	Dir string
	// ID names the member in its cluster: 1 to 63 of [a-z0-9.-]. It may be
	// empty only without Addr.
	ID string
	// ClusterToken keeps clusters apart that have equal InitialCluster tables,
	// such as staging and production. It must be the same on all members, and
	// never change.
	ClusterToken string

	// Addr, host:port, is what peers dial. Empty: a single member without
	// network. It must be an address that peers can reach: 0.0.0.0 and :: are
	// refused, and so are characters other than printable ASCII, and the semicolon.
	Addr string
	// Listen, host:port, or Listener: where the handle serves its peers
	// itself. With neither, the application mounts the peer service on its
	// own gRPC server: RegisterPeer, before Serve. The handle owns Listener;
	// Open that fails closes it.
	Listen   string
	Listener net.Listener
	// Dial opens connections to peers. The default dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// PeerDialOptions are added to those of the connections to peers.
	PeerDialOptions []grpc.DialOption

	// InitialCluster is the table of all first voters, this one among them:
	// the same on each. It counts when Dir is empty; afterwards it only tells
	// where members may be found.
	InitialCluster []Member
	// Join, addresses of members of a running cluster: this member asks any of
	// them to be added, receives the data, and becomes a voter once it has caught
	// up. It counts when Dir is empty; afterwards it only tells where members may
	// be found. With Addr and an empty Dir, one of InitialCluster and Join is
	// required; both is an error.
	Join []string

	// PeerTLS secures the traffic between members: the certificate is used in
	// both directions, and its DNS names must hold the member's ID (but see
	// PeerID). Required with Addr, unless InsecurePeers is set.
	PeerTLS *tls.Config
	// PeerID returns the member id that a peer's certificate is for. The
	// default takes a certificate for each of its DNS names.
	PeerID func(*x509.Certificate) (string, error)
	// InsecurePeers lets anybody who reaches Addr act as a member. For tests,
	// and networks where somebody else authenticates.
	InsecurePeers bool

	// LogStore opens raft's log in a directory of its own inside Dir. The default
	// is store/raftlog. It must be the same at each Open.
	LogStore func(dir string) (LogStore, error)

	// Logger receives what operators should know. nil: silent.
	Logger *slog.Logger
	// Events is told of elections, changes of membership, snapshots and stalls.
	Events EventListener

	// ElectionTimeout is how long a candidate waits for votes and, with the
	// default HeartbeatInterval, a follower for its leader, at least; the double
	// at most. Default 1 s: it must exceed the longest pause of disk and
	// process, else leaders change for nothing.
	ElectionTimeout time.Duration
	// HeartbeatInterval is how often a leader tells that it lives. A follower
	// that hears nothing for ten of them, which must exceed the slowest fsync,
	// starts an election. Default, and upper limit, a tenth of ElectionTimeout.
	HeartbeatInterval time.Duration
	// WriteDeadline is how long a write to the log, or applying a batch of
	// entries, may take before this member gives up for good (Err wraps raftlog.ErrStalled), so that another leads. It
	// must exceed the longest pause that the disk recovers from. Default 10 s.
	WriteDeadline time.Duration
	// RequestTimeout is the deadline of calls whose ctx has none, but for the
	// bodies of scans. Default 10 s.
	RequestTimeout time.Duration

	// MaxKeyBytes and MaxValueBytes bound what is put, through this member: they may be
	// changed on one member after the other, and what was put before can be read and
	// deleted, whatever they are.
	MaxKeyBytes   int // default 4096; at most 64 KiB
	MaxValueBytes int // default 1 MiB; at most 3 MiB: a log entry must fit a message
	MaxTxnOps     int // keys that one DeleteRange may delete; default 10,000; at most 100,000

	// MaxInFlightBytes bounds the writes that wait on this member, and
	// separately those forwarded to it; beyond it ErrOverloaded. Default 64 MiB.
	MaxInFlightBytes int64
	// CacheBytes is what the state keeps in memory: its memtables, mostly 32 and at
	// most 64 MiB, and, with what they leave, blocks of its files; beside it half as much for
	// items that are read often. Default 64 MiB.
	// docs/performance.md has the whole budget of a member.
	CacheBytes int64
	// SnapshotLogBytes is how much log may gather before a snapshot truncates
	// it, and so bounds what a restart replays. Default 64 MiB.
	SnapshotLogBytes int64
	// TrailingLogBytes is how much log stays after a snapshot, so that a
	// follower that was away for a moment needs no snapshot. Default 16 MiB.
	TrailingLogBytes int64
	// SnapshotRateBytes is how fast, in bytes per second, this member sends its
	// state to followers that need more than the log has: all of them together.
	// Default 32 MiB/s; at least 1 MiB/s; negative: as fast as disk and network
	// allow, which delays writes meanwhile.
	SnapshotRateBytes int64

	// HistoryAge is how long earlier revisions can be read: what is older, by the
	// clocks of the leaders, is compacted, a tenth later at most. It must be the same
	// on all members that may lead, and their clocks about right. Default 10 min: a
	// watcher that was away, or a long scan, is done by then, and the disk holds it.
	// At least 1 s; negative: never.
	HistoryAge time.Duration
	// HistoryRevisions is how many earlier revisions can be read, if more are written
	// within HistoryAge; a tenth more at times. Default 0: no such limit.
	HistoryRevisions int64

	// QuotaBytes bounds the state on disk. Once its files have so many bytes on the
	// leader, which looks once a second, all members refuse what makes it grow with
	// ErrQuota, not done: Set, Grant, and Txn and Update that put something. Reads,
	// deletes, Compact, Revoke, keep-alives and changes of the members always work.
	// After deletes and Compact (or HistoryAge) it ends by itself, a thirty-second
	// below the limit. Give it to all members that may lead.
	//
	// It is no hard limit: docs/guarantees.md says what comes on top, and wants room
	// on the disk. Default 0: no limit; at least 1 MiB.
	QuotaBytes int64

	edges hook.Edges
}

// LogStore is where raft keeps its log, its term and its vote: what it
// acknowledges must be on stable storage. If it is an io.Closer, Close of the
// store closes it. store/raftlog/logtest is a test suite for one.
type LogStore interface {
	raft.LogStore
	raft.StableStore
}

// What any Config allows at most: an entry must fit a message.
const (
	mostKeyBytes   = 64 << 10
	mostValueBytes = 3 << 20
)

// localID and localAddr stand for a member without network.
const (
	localID   = "local"
	localAddr = "local:0"
)

var validID = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)

// withDefaults validates c and fills in its defaults.
func (c Config) withDefaults() (Config, error) {
	bad := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("%w: "+format, append([]any{ErrInvalidConfig}, args...)...)
	}
	if c.Dir == "" {
		return bad("Dir is empty")
	}
	if c.Addr == "" {
		if c.Listen != "" || c.Listener != nil || len(c.InitialCluster) > 0 || len(c.Join) > 0 {
			return bad("Listen, Listener, InitialCluster and Join need an Addr")
		}
		c.InitialCluster = nil
		if c.ID == "" {
			c.ID = localID
		}
	}
	if !validID.MatchString(c.ID) {
		return bad("ID %q is not 1 to 63 of [a-z0-9.-]", c.ID)
	}
	if c.Addr != "" {
		if err := c.checkNetwork(); err != nil {
			return Config{}, err
		}
	}
	c.InitialCluster, c.Join = slices.Clone(c.InitialCluster), slices.Clone(c.Join)
	if c.PeerTLS != nil {
		c.PeerTLS = c.PeerTLS.Clone()
	}
	if err := c.timing(); err != nil {
		return Config{}, err
	}
	return c.limits()
}

// checkNetwork validates what a member with peers needs.
func (c *Config) checkNetwork() error {
	if err := checkAddr(c.Addr); err != nil {
		return err
	}
	if c.Listen != "" && c.Listener != nil {
		return fmt.Errorf("%w: both Listen and Listener", ErrInvalidConfig)
	}
	if c.PeerTLS == nil && !c.InsecurePeers {
		return fmt.Errorf("%w: Addr is set without PeerTLS: set PeerTLS, or InsecurePeers if anybody who reaches %s may act as a member",
			ErrInvalidConfig, c.Addr)
	}
	if t := c.PeerTLS; t != nil && len(t.Certificates) == 0 && (t.GetCertificate == nil || t.GetClientCertificate == nil) {
		return fmt.Errorf("%w: PeerTLS has no certificate: members show one in both directions", ErrInvalidConfig)
	}
	if len(c.InitialCluster) > 0 && len(c.Join) > 0 {
		return fmt.Errorf("%w: both InitialCluster and Join: a member founds a cluster or joins one", ErrInvalidConfig)
	}
	for _, addr := range c.Join {
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("Join: %w", err)
		}
	}
	seen := map[string]bool{}
	for _, m := range c.InitialCluster {
		switch {
		case !validID.MatchString(m.ID):
			return fmt.Errorf("%w: InitialCluster: ID %q is not 1 to 63 of [a-z0-9.-]", ErrInvalidConfig, m.ID)
		case seen[m.ID] || seen[m.Addr]:
			return fmt.Errorf("%w: InitialCluster: member %s at %s is there twice", ErrInvalidConfig, m.ID, m.Addr)
		case m.Nonvoter:
			return fmt.Errorf("%w: InitialCluster: %s is a non-voter; they are added later", ErrInvalidConfig, m.ID)
		case m.ID == c.ID && m.Addr != c.Addr:
			return fmt.Errorf("%w: InitialCluster has %s at %s, Addr is %s", ErrInvalidConfig, m.ID, m.Addr, c.Addr)
		}
		if err := checkAddr(m.Addr); err != nil {
			return err
		}
		seen[m.ID], seen[m.Addr] = true, true
	}
	if len(c.InitialCluster) > 0 && !seen[c.ID] {
		return fmt.Errorf("%w: InitialCluster does not hold this member, %s", ErrInvalidConfig, c.ID)
	}
	return nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" || port == "0" {
		return fmt.Errorf("%w: address %q is not host:port", ErrInvalidConfig, addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%w: address %q is not one that peers can dial", ErrInvalidConfig, addr)
	}
	if !transport.CanTell(addr) {
		return fmt.Errorf("%w: address %q has characters that peers cannot be told: a semicolon, or none of printable ASCII", ErrInvalidConfig, addr)
	}
	return nil
}

// maxTimeout bounds the timeouts: with the longest that a Duration can hold, what is
// twice as long would be over at once.
const maxTimeout = 365 * 24 * time.Hour

func (c *Config) timing() error {
	for _, d := range []*time.Duration{&c.ElectionTimeout, &c.WriteDeadline, &c.RequestTimeout} {
		*d = min(*d, maxTimeout)
	}
	setDefault(&c.ElectionTimeout, time.Second)
	setDefault(&c.HeartbeatInterval, c.ElectionTimeout/10)
	setDefault(&c.RequestTimeout, 10*time.Second)
	setDefault(&c.WriteDeadline, raftlog.DefaultWriteDeadline)
	if c.ElectionTimeout < 50*time.Millisecond {
		return fmt.Errorf("%w: ElectionTimeout %v is under 50ms", ErrInvalidConfig, c.ElectionTimeout)
	}
	if c.HeartbeatInterval < time.Millisecond || c.HeartbeatInterval > c.ElectionTimeout/10 {
		return fmt.Errorf("%w: HeartbeatInterval %v is not between 1ms and a tenth of ElectionTimeout, %v",
			ErrInvalidConfig, c.HeartbeatInterval, c.ElectionTimeout/10)
	}
	if c.RequestTimeout < 0 || c.WriteDeadline < 0 {
		return fmt.Errorf("%w: RequestTimeout %v, WriteDeadline %v", ErrInvalidConfig, c.RequestTimeout, c.WriteDeadline)
	}
	return nil
}

func (c Config) limits() (Config, error) {
	setDefault(&c.MaxKeyBytes, 4096)
	setDefault(&c.MaxValueBytes, 1<<20)
	setDefault(&c.MaxTxnOps, 10_000)
	setDefault(&c.MaxInFlightBytes, 64<<20)
	setDefault(&c.CacheBytes, 64<<20)
	setDefault(&c.SnapshotLogBytes, 64<<20)
	setDefault(&c.TrailingLogBytes, 16<<20)
	setDefault(&c.SnapshotRateBytes, 32<<20)
	setDefault(&c.HistoryAge, 10*time.Minute)
	var wrong []string
	check := func(name string, v, low, high int64) {
		if v < low || v > high {
			wrong = append(wrong, fmt.Sprintf("%s %d is not between %d and %d", name, v, low, high))
		}
	}
	check("MaxKeyBytes", int64(c.MaxKeyBytes), 1, mostKeyBytes)
	check("MaxValueBytes", int64(c.MaxValueBytes), 1, mostValueBytes)
	check("MaxTxnOps", int64(c.MaxTxnOps), 1, 100_000)
	check("MaxInFlightBytes", c.MaxInFlightBytes, 4<<20, 1<<40)
	check("CacheBytes", c.CacheBytes, 1<<20, 1<<40)
	check("SnapshotLogBytes", c.SnapshotLogBytes, 1<<10, 1<<40)
	check("TrailingLogBytes", c.TrailingLogBytes, 1, 1<<40)
	if c.SnapshotRateBytes > 0 {
		// Below, a part of a stream may take longer than a stream without progress lasts.
		check("SnapshotRateBytes", c.SnapshotRateBytes, 1<<20, 1<<40)
	}
	check("HistoryRevisions", c.HistoryRevisions, 0, 1<<60)
	if c.QuotaBytes != 0 {
		check("QuotaBytes", c.QuotaBytes, minQuotaBytes, 1<<60)
	}
	if c.HistoryAge > 0 && c.HistoryAge < time.Second {
		wrong = append(wrong, fmt.Sprintf("HistoryAge %v is under 1s", c.HistoryAge))
	}
	if len(wrong) > 0 {
		return Config{}, fmt.Errorf("%w: %s", ErrInvalidConfig, strings.Join(wrong, "; "))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.edges.FS == nil {
		c.edges.FS = disk.Default
	}
	if c.LogStore == nil {
		c.LogStore = func(dir string) (LogStore, error) {
			return raftlog.Open(dir, raftlog.Options{FS: c.edges.FS, Logger: c.Logger, WriteDeadline: c.WriteDeadline})
		}
	}
	if c.edges.Now == nil {
		c.edges.Now = time.Now
	}
	return c, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
