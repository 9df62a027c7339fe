package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// checkCertificate checks that the caller's certificate is for the member id.
// The server is perhaps the application's and accepts other certificates for
// other services, so the chain is verified against our own pool again.
func (t *Transport) checkCertificate(ctx context.Context, id string) error {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return errors.New("no peer information")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return errors.New("no client certificate")
	}
	if err := t.verifyClient(info.State); err != nil {
		return err
	}
	return t.certificateIsFor(info.State.PeerCertificates[0], id)
}

func (t *Transport) verifyClient(state tls.ConnectionState) error {
	var pool *x509.CertPool
	if c := t.cfg.TLS; c != nil {
		if pool = c.ClientCAs; pool == nil {
			pool = c.RootCAs
		}
	}
	if pool != nil {
		return verifyChain(state.PeerCertificates, pool)
	}
	if len(state.VerifiedChains) == 0 {
		return errors.New("the client certificate was not verified")
	}
	return nil
}

// certificateIsFor checks the name in a verified certificate.
func (t *Transport) certificateIsFor(cert *x509.Certificate, id string) error {
	if t.cfg.PeerID == nil {
		if !slices.Contains(cert.DNSNames, id) {
			return fmt.Errorf("the certificate is for %q, not for %q", cert.DNSNames, id)
		}
		return nil
	}
	got, err := t.cfg.PeerID(cert)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("the certificate is for %q, not for %q", got, id)
	}
	return nil
}

// verifyChain verifies certs[0]; a nil pool means the system's roots. Members
// are clients and servers alike, so either key usage will do.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	return err
}
