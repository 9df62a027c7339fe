package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// With certificates nodes and clients authenticate each other, on one port.
func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	procs := startThree(t, func(id string) []string { return ca.flags(t, id) })
	for _, p := range procs {
		kv := replkvv1.NewTextKVClient(p.dial(t))
		if _, err := kv.Set(t.Context(), &replkvv1.TextSetRequest{Key: "k", Value: "v"}); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := grpc.NewClient(procs[0].opts.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := replkvv1.NewTextKVClient(conn).Get(t.Context(), &replkvv1.TextGetRequest{Key: "k"}); err == nil {
		t.Error("a client in plain text was served")
	}
}

type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	a.key, der = sign(t, template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

// flags makes a certificate for a member and returns the flags that name it.
func (a *authority) flags(t *testing.T, id string) []string {
	t.Helper()
	key, der := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{id}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, a.cert, a.key)
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-ca", filepath.Join(a.dir, "ca.pem"), "-cert", a.write(t, id+".pem", "CERTIFICATE", der),
		"-key", a.write(t, id+".key", "EC PRIVATE KEY", raw)}
}

// sign makes a key and its certificate; a nil signer signs itself.
func sign(t *testing.T, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	name = filepath.Join(a.dir, name)
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
