package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// secure loads the certificates, and refuses to be open to a network without.
func (o *options) secure(cert, key, ca string, insecure bool) error {
	host, _, err := net.SplitHostPort(o.listen)
	switch given := cert != "" || key != "" || ca != ""; {
	case err != nil:
		return err
	case given && insecure:
		return errors.New("-insecure with certificates: choose one")
	case given && (cert == "" || key == "" || ca == ""):
		return errors.New("-cert, -key and -ca belong together")
	case given:
		o.tls, err = loadTLS(cert, key, ca)
		return err
	case !insecure && !loopback(host):
		return fmt.Errorf("%s is not a loopback address: give -cert, -key and -ca, or -insecure to let anybody who reaches it read, write and act as a member", host)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// loadTLS makes one configuration for both directions: peers and clients alike
// show a certificate of the authority, and a member's has its id as a DNS name.
func loadTLS(cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authority: %s holds no certificate", ca)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}
