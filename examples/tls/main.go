// Command tls runs three members that authenticate each other: with
// certificates of one authority, each for the id of its member. Here authority
// and members live in one process, in memory; in earnest each machine has its
// own key, and the authority is elsewhere.
//
//	go run ./examples/tls
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/replkv/replkv"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "replkv-tls-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	dbs, err := open(dir, func(id string) (*tls.Config, error) { return ca.member(id) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(dbs)) }()

	if _, err := dbs[0].Set(ctx, "secret", []byte("of three")); err != nil {
		return err
	}
	for _, db := range dbs {
		item, err := db.Get(ctx, "secret")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s reads %q\n", db.Status().ID, item.Value)
	}
	return nil
}

// open opens the members a, b and c, each with what credentials gives it.
func open(dir string, credentials func(id string) (*tls.Config, error)) ([]*replkv.DB, error) {
	var listeners []net.Listener
	var members []replkv.Member
	for _, id := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		members = append(members, replkv.Member{ID: id, Addr: l.Addr().String()})
	}
	var dbs []*replkv.DB
	for i, m := range members {
		cfg, err := credentials(m.ID)
		if err != nil {
			return nil, errors.Join(err, closeAll(dbs))
		}
		db, err := replkv.Open(replkv.Config{Dir: filepath.Join(dir, m.ID), ID: m.ID, Addr: m.Addr, Listener: listeners[i],
			InitialCluster: members, PeerTLS: cfg})
		if err != nil {
			return nil, errors.Join(err, closeAll(dbs))
		}
		dbs = append(dbs, db)
	}
	return dbs, nil
}

func closeAll(dbs []*replkv.DB) error {
	var errs []error
	for _, db := range dbs {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}
