package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/replkv/replkv/internal/service"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

func TestConfigIsChecked(t *testing.T) {
	one := []string{"h:1"}
	for name, cfg := range map[string]Config{
		"no endpoints":     {Insecure: true},
		"empty endpoint":   {Insecure: true, Endpoints: []string{"h:1", ""}},
		"bad target":       {Insecure: true, Endpoints: []string{"h:1", "dns://%zz/x"}},
		"no security":      {Endpoints: one},
		"two securities":   {Endpoints: one, Insecure: true, TLS: &tls.Config{}},
		"negative timeout": {Endpoints: one, Insecure: true, RequestTimeout: -1},
	} {
		if c, err := Dial(cfg); c != nil || !errors.Is(err, kv.ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := Config{Endpoints: one, Insecure: true}
	c, err := Dial(cfg)
	if err != nil || c.timeout != 10*time.Second || cfg.RequestTimeout != 0 {
		t.Fatalf("got %+v, %v", c, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestTLSOverTCP(t *testing.T) {
	cert, roots := selfSigned(t, "store.example")
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	if err := service.Register(srv, kvtest.NewFake()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	for name, good := range map[string]bool{"store.example": true, "other.example": false} {
		c, err := Dial(Config{Endpoints: []string{l.Addr().String()}, TLS: &tls.Config{RootCAs: roots, ServerName: name}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Set(t.Context(), "k", nil)
		if good && err != nil || !good && (!errors.Is(err, kv.ErrNoLeader) || kv.OutcomeOf(err) != kv.OutcomeNotDone) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func selfSigned(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TestTheLongestTimeout: what is added to it does not make it the shortest.
func TestTheLongestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := one(t, Config{RequestTimeout: math.MaxInt64})
		if _, err := c.Set(context.Background(), "k", nil); err != nil {
			t.Errorf("Set: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range c.Watch(ctx, kv.All()) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Watch: %v", err)
			}
		}
		if n := f.Calls("Watch"); n != 1 {
			t.Errorf("%d streams in a minute", n)
		}
	})
}
