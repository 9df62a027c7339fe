package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport/memnet"
)

func TestIdentityIsChecked(t *testing.T) {
	refused := errors.New("refused by state")
	check := func(id Identity) error {
		if slices.Contains(id.Starts, Start{Number: 99, Boot: 7}) {
			return refused
		}
		return nil
	}
	for _, c := range []struct {
		name   string
		change func(*Config) // of the caller
		id     string        // whom it means to reach
		want   codes.Code
	}{
		{"right", func(*Config) {}, "b", codes.OK},
		{"cluster", func(c *Config) { c.Cluster[3]++ }, "b", codes.FailedPrecondition},
		{"group", func(c *Config) { c.Group = 1 }, "b", codes.FailedPrecondition},
		{"addressee", func(*Config) {}, "c", codes.FailedPrecondition},
		{"state", func(c *Config) { c.Starts = []Start{{Number: 1, Boot: 1}, {Number: 99, Boot: 7}} }, "b", codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *memnet.Network) {
				a, b := start(t, n, "a", c.change), start(t, n, "b", withHandler, func(c *Config) { c.CheckPeer = check })
				consume(t, b, echo)
				for _, call := range []func() error{
					func() error {
						return a.AppendEntries(raft.ServerID(c.id), "b:1", appendHeartbeat("a"), &raft.AppendEntriesResponse{})
					},
					func() error {
						return a.AppendEntries(raft.ServerID(c.id), "b:1", appendRequest("a", entries(0, 1, 1)), &raft.AppendEntriesResponse{})
					},
					func() error {
						return a.InstallSnapshot(raft.ServerID(c.id), "b:1", snapshotRequest("a", 1<<20), &raft.InstallSnapshotResponse{}, io.LimitReader(endless{}, 1<<20))
					},
				} {
					if err := call(); status.Code(err) != c.want {
						t.Errorf("%v", err)
					}
				}
				_, _, err := a.Confirm(t.Context(), c.id, "b:1", 1)
				switch {
				case c.want == codes.FailedPrecondition && (!errors.Is(err, kv.ErrWrongCluster) || kv.OutcomeOf(err) != kv.OutcomeNotDone):
					t.Errorf("Confirm: %v", err)
				case (err == nil) != (c.want == codes.OK):
					t.Errorf("Confirm: %v", err)
				}
			})
		})
	}
}

func TestMissingOrTornIdentity(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		full := start(t, n, "x").outgoing(context.Background(), "b")
		md, _ := metadata.FromOutgoingContext(full)
		check := func(b *Transport, md metadata.MD, want codes.Code) {
			t.Helper()
			_, err := b.authenticate(metadata.NewIncomingContext(t.Context(), md))
			if status.Code(err) != want {
				t.Errorf("%v: %v", md, err)
			}
		}
		open := start(t, n, "b")
		check(open, md, codes.OK)
		check(open, nil, codes.OK) // a plain Jille node
		for k := range md {
			torn := md.Copy()
			delete(torn, k)
			check(open, torn, codes.PermissionDenied)
			torn[k] = []string{"nonsense", "twice"}
			check(open, torn, codes.PermissionDenied)
		}
		cfg := testConfig("b", "b:1")
		cfg.Insecure, cfg.TLS = false, &tls.Config{}
		closed, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer closed.Close()
		check(closed, nil, codes.PermissionDenied)
		check(closed, md, codes.PermissionDenied) // no certificate
	})
}

func TestSetCluster(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a, b := start(t, n, "a", func(c *Config) { c.Cluster = [16]byte{} }), start(t, n, "b", withHandler)
		if _, _, err := a.Confirm(t.Context(), "b", "b:1", 1); !errors.Is(err, kv.ErrNoLeader) {
			t.Fatal(err)
		}
		a.SetCluster(b.cfg.Cluster, 1)
		if _, _, err := a.Confirm(t.Context(), "b", "b:1", 1); err != nil {
			t.Fatal(err)
		}
	})
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// member returns the TLS configuration of a member: SAN id, and a URI.
func (a *authority) member(t *testing.T, id string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{id}, URIs: []*url.URL{{Scheme: "spiffe", Host: "x", Path: id}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool(), ClientCAs: a.pool(), MinVersion: tls.VersionTLS13}
}

// startTLS serves b on a server that takes any certificate of either authority:
// the application's, for its own clients.
func startTLS(t *testing.T, n *memnet.Network, cfg Config, served *tls.Config, also *authority) *Transport {
	t.Helper()
	l, err := n.Listen(cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	served = served.Clone()
	served.ClientAuth = tls.VerifyClientCertIfGiven
	served.ClientCAs = served.ClientCAs.Clone()
	served.ClientCAs.AddCert(also.cert)
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(served)))
	if err := tr.Register(srv); err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { tr.Close(); srv.Stop() })
	return tr
}

func TestCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	uri := func(c *x509.Certificate) (string, error) {
		if len(c.URIs) == 0 {
			return "", errors.New("no URI")
		}
		return strings.TrimPrefix(c.URIs[0].Path, "/"), nil
	}
	both := func(id string, roots, signer *authority) *tls.Config {
		c := signer.member(t, id)
		c.RootCAs, c.ClientCAs = roots.pool(), roots.pool()
		return c
	}
	for _, c := range []struct {
		name   string
		caller *tls.Config
		served *tls.Config
		peerID func(*x509.Certificate) (string, error)
		ok     bool
	}{
		{"right", ours.member(t, "a"), ours.member(t, "b"), nil, true},
		{"right, own names", ours.member(t, "a"), ours.member(t, "b"), uri, true},
		{"caller is another", ours.member(t, "c"), ours.member(t, "b"), nil, false},
		{"caller is another, own names", ours.member(t, "c"), ours.member(t, "b"), uri, false},
		{"caller of another authority", both("a", ours, theirs), ours.member(t, "b"), nil, false},
		{"caller without certificate", &tls.Config{RootCAs: ours.pool()}, ours.member(t, "b"), nil, false},
		{"server is another", ours.member(t, "a"), ours.member(t, "c"), nil, false},
		{"server is another, own names", ours.member(t, "a"), ours.member(t, "c"), uri, false},
		{"server of another authority", ours.member(t, "a"), theirs.member(t, "b"), nil, false},
		{"server of another authority, own names", ours.member(t, "a"), theirs.member(t, "b"), uri, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := memnet.New()
			config := func(id string, tc *tls.Config) Config {
				cfg := testConfig(id, id+":1")
				cfg.Insecure, cfg.TLS, cfg.PeerID, cfg.Dial = false, tc, c.peerID, n.Dialer(id)
				return cfg
			}
			bcfg := config("b", ours.member(t, "b"))
			withHandler(&bcfg)
			b := startTLS(t, n, bcfg, c.served, theirs)
			consume(t, b, echo)
			a, err := New(config("a", c.caller))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			for _, name := range []string{"AppendEntries", "heartbeat", "Confirm"} {
				if err := calls(a)[name].call(); (err == nil) != c.ok {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestAddressesThatCanBeTold: those, and no others, arrive as they are.
func TestAddressesThatCanBeTold(t *testing.T) {
	bubble(t, func(t *testing.T, n *memnet.Network) {
		a := start(t, n, "a", func(c *Config) { c.Handler = handler{} })
		for _, c := range []string{" ", "~", "[", "=", ",", ";", "\t", "\n", "\x00", "\x7f", "\xff", "ö"} {
			host := "b" + c + "x"
			addr, told := host+":1", ""
			l, err := n.Listen(addr)
			if err != nil {
				t.Fatal(err)
			}
			cfg := testConfig("b", addr)
			cfg.Handler, cfg.Dial = handler{}, n.Dialer(host)
			b := startOn(t, l, cfg)
			id, _, answered := a.Hello(t.Context(), addr) // with an answer
			_, _, asked := b.Hello(t.Context(), "a:1")    // and with a request
			if answered == nil && asked == nil {
				told = id.Addr
			}
			if (told == addr) != CanTell(addr) {
				t.Errorf("CanTell(%q) is %v; told %q; answered %v, asked %v", addr, CanTell(addr), id.Addr, answered, asked)
			}
		}
	})
}
