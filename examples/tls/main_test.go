package main

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/replkv/replkv"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil || out.String() != "a reads \"of three\"\nb reads \"of three\"\nc reads \"of three\"\n" {
		t.Errorf("got %q, %v", &out, err)
	}
}

// Two members work on without a third that is not who it should be, and say why.
// It gets nothing from them.
func TestStrangers(t *testing.T) {
	ours, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for _, stranger := range []struct {
		name        string
		credentials func() (*tls.Config, error)
		said        string // by the leader, of c
	}{
		{"without a certificate", func() (*tls.Config, error) { return bare(ours.trust()), nil }, "unrecognized name"},
		{"of another authority", func() (*tls.Config, error) {
			cfg, err := theirs.member("c")
			if err == nil {
				cfg.RootCAs, cfg.ClientCAs = ours.trust().RootCAs, ours.trust().ClientCAs
			}
			return cfg, err
		}, "signed by unknown authority"},
		{"for another member", func() (*tls.Config, error) { return ours.member("d") }, "valid for d, not c"},
	} {
		t.Run(stranger.name, func(t *testing.T) {
			t.Parallel() // each takes elections
			dbs, err := open(t.TempDir(), func(id string) (*tls.Config, error) {
				if id == "c" {
					return stranger.credentials()
				}
				return ours.member(id)
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := closeAll(dbs); err != nil {
					t.Error(err)
				}
			})
			if _, err := dbs[0].Set(t.Context(), "k", nil); err != nil {
				t.Fatal(err)
			}
			waitFor(t, stranger.said, func() string { return lastError(leader(dbs), "c") })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = dbs[2].Get(ctx, "k")
			if !errors.Is(err, replkv.ErrNoLeader) {
				t.Errorf("c reads: %v", err)
			}
		})
	}
}

// bare promises certificates and has none to show.
func bare(cfg *tls.Config) *tls.Config {
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	return cfg
}

// waitFor waits until said holds want.
func waitFor(t *testing.T, want string, said func() string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(20 * time.Second); !strings.Contains(said(), want); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("nobody says %q, but %q", want, said())
		}
	}
}

// leader is whoever of a and b leads: it is the one that talks to c.
func leader(dbs []*replkv.DB) *replkv.DB {
	if dbs[1].Status().Role == "leader" {
		return dbs[1]
	}
	return dbs[0]
}

func lastError(db *replkv.DB, id string) string {
	for _, m := range db.Status().Members {
		if m.ID == id && m.LastError != nil {
			return m.LastError.Error()
		}
	}
	return ""
}
