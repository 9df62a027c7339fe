package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/replkv/replkv"
)

// basePort plus its id is a node's port, unless -addr says otherwise.
const basePort = 50050

const usageHead = `usage: node [flags] <id> [peer addresses]
       node [flags] -join <addresses> <id>

<id> is a number from 1. Peers are separated by commas: host:port, where the
port is 50050 + the peer's id, or id=host:port. No peers: a single member.
With -join the node becomes a member of a cluster that runs. Both count while
the data directory is empty; afterwards the directory knows its cluster, and
they only tell where members may be found.

`

// options is what the command line comes to.
type options struct {
	id      string
	addr    string // what peers and clients dial
	listen  string
	dir     string
	members []replkv.Member // the first of the cluster, this node among them; none with join
	join    []string        // addresses of members to ask
	metrics string          // where to serve HTTP for Prometheus; "": nowhere
	tls     *tls.Config     // nil: plain text, and whoever reaches the port is believed
	verbose bool
	usage   string
}

// parse reads the command line. Flags may stand anywhere.
func parse(args []string) (options, error) {
	var o options
	var host, join, cert, key, ca string
	var insecure bool
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	fs.StringVar(&o.addr, "addr", "", "`host:port` that peers dial (default 127.0.0.1:(50050+id))")
	fs.StringVar(&host, "host", "", "`host` to listen on (default: that of -addr)")
	fs.StringVar(&o.dir, "dir", "", "data `directory` (default replkv-data/node-<id>)")
	fs.StringVar(&join, "join", "", "`addresses` of members of a running cluster to join, host:port separated by commas")
	fs.StringVar(&o.metrics, "metrics", "", "`host:port` to serve /metrics on for Prometheus, to anybody who asks")
	fs.StringVar(&cert, "cert", "", "certificate `file`, PEM; its DNS names must hold the id")
	fs.StringVar(&key, "key", "", "key `file` of -cert")
	fs.StringVar(&ca, "ca", "", "`file` of the authority that peers' and clients' certificates must be from")
	fs.BoolVar(&insecure, "insecure", false, "listen on a host that is not loopback without certificates: anybody who reaches it can do anything")
	fs.BoolVar(&o.verbose, "v", false, "log to stderr")
	var usage strings.Builder
	usage.WriteString(usageHead)
	fs.SetOutput(&usage)
	fs.PrintDefaults()
	o.usage = usage.String()
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}

	words, err := parseMixed(fs, args)
	if err != nil {
		return o, err
	}
	if err := o.place(words, host); err != nil {
		return o, err
	}
	if join != "" {
		err = o.parseJoin(join, words[1:])
	} else {
		err = o.parsePeers(words[1:])
	}
	if err != nil {
		return o, err
	}
	return o, o.secure(cert, key, ca, insecure)
}

// parseMixed parses flags before, between and after the other words.
func parseMixed(fs *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if args = fs.Args(); len(args) == 0 {
			return words, nil
		}
		words, args = append(words, args[0]), args[1:]
	}
}

// place settles the node's id, addresses and directory.
func (o *options) place(words []string, host string) error {
	if len(words) == 0 {
		return errors.New("no id: want node <id> [peer addresses]; see -h")
	}
	n, err := parseID(words[0])
	if err != nil {
		return err
	}
	o.id = words[0]
	if o.addr == "" {
		port := basePort + n
		if port > 65535 {
			return fmt.Errorf("id %s: port %d does not exist; set -addr", o.id, port)
		}
		o.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
			o.addr = net.JoinHostPort(host, strconv.Itoa(port))
		} else if host != "" {
			return fmt.Errorf("-host %s: peers cannot dial that; set -addr, too", host)
		}
	}
	addrHost, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		return fmt.Errorf("-addr %q is not host:port", o.addr)
	}
	if host == "" {
		host = addrHost
	}
	o.listen = net.JoinHostPort(host, port)
	if o.dir == "" {
		o.dir = filepath.Join("replkv-data", "node-"+o.id)
	}
	return nil
}

// parseID wants ids as they are written in the table of members: 1, not 01.
func parseID(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("id %q is not a number from 1", s)
	}
	return n, nil
}

// parsePeers makes the table of members. A list that holds this node, too, is
// fine: then all nodes can be given the same.
func (o *options) parsePeers(words []string) error {
	o.members = []replkv.Member{{ID: o.id, Addr: o.addr}}
	for _, peer := range strings.Split(strings.Join(words, ","), ",") {
		if peer == "" {
			continue
		}
		m, err := parsePeer(peer)
		if err != nil {
			return err
		}
		if m == o.members[0] {
			continue
		}
		for _, other := range o.members {
			if m.ID == other.ID || m.Addr == other.Addr {
				return fmt.Errorf("peer %q: the cluster has node %s at %s already", peer, other.ID, other.Addr)
			}
		}
		o.members = append(o.members, m)
	}
	return nil
}

// parseJoin notes whom to ask. Peers would be the first members of a cluster,
// which is there already.
func (o *options) parseJoin(join string, peers []string) error {
	if len(peers) > 0 {
		return fmt.Errorf("-join and peers %q: a node joins a cluster or begins one", strings.Join(peers, " "))
	}
	for _, addr := range strings.Split(join, ",") {
		host, port, err := net.SplitHostPort(addr)
		switch {
		case err != nil || host == "" || port == "" || port == "0":
			return fmt.Errorf("-join %q is not host:port", addr)
		case addr == o.addr:
			return fmt.Errorf("-join %s is this node itself", addr)
		}
		o.join = append(o.join, addr)
	}
	return nil
}

func parsePeer(s string) (replkv.Member, error) {
	id, addr, explicit := strings.Cut(s, "=")
	if !explicit {
		id, addr = "", s
	}
	host, port, err := net.SplitHostPort(addr)
	n, portErr := strconv.Atoi(port)
	if err != nil || host == "" || portErr != nil || n < 1 || n > 65535 {
		return replkv.Member{}, fmt.Errorf("peer %q is not host:port or id=host:port", s)
	}
	if !explicit {
		if n <= basePort {
			return replkv.Member{}, fmt.Errorf("peer %q: its port is not %d + id; write id=%s", s, basePort, s)
		}
		id = strconv.Itoa(n - basePort)
	}
	if _, err := parseID(id); err != nil {
		return replkv.Member{}, fmt.Errorf("peer %q: %w", s, err)
	}
	return replkv.Member{ID: id, Addr: addr}, nil
}
