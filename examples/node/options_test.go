package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/replkv/replkv"
)

func TestParseJoin(t *testing.T) {
	for args, want := range map[string]string{
		"-join 127.0.0.1:50051 4":                                 "4 127.0.0.1:50054 replkv-data/node-4 127.0.0.1:50051",
		"4 -join 127.0.0.1:50051,localhost:7000":                  "4 127.0.0.1:50054 replkv-data/node-4 127.0.0.1:50051,localhost:7000",
		"-join 127.0.0.1:50051 -addr 127.0.0.1:9 4 -dir d":        "4 127.0.0.1:9 d 127.0.0.1:50051",
		"-insecure -join a:1 -host 0.0.0.0 -addr 10.0.0.1:7000 3": "3 10.0.0.1:7000 replkv-data/node-3 a:1",
	} {
		o, err := parse(strings.Fields(args))
		got := strings.Join([]string{o.id, o.addr, filepath.ToSlash(o.dir), strings.Join(o.join, ",")}, " ")
		if err != nil || got != want || len(o.members) > 0 {
			t.Errorf("%s: got %q, members %v, %v; want %q", args, got, o.members, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args                           string
		id, addr, listen, dir, members string
	}{
		{"1", "1", "127.0.0.1:50051", "127.0.0.1:50051", "replkv-data/node-1", "1=127.0.0.1:50051"},
		{"1 127.0.0.1:50052,127.0.0.1:50053", "1", "127.0.0.1:50051", "127.0.0.1:50051", "replkv-data/node-1",
			"1=127.0.0.1:50051,2=127.0.0.1:50052,3=127.0.0.1:50053"},
		{"2 127.0.0.1:50051,127.0.0.1:50052", "2", "127.0.0.1:50052", "127.0.0.1:50052", "replkv-data/node-2",
			"1=127.0.0.1:50051,2=127.0.0.1:50052"}, // itself in the list
		{"1 127.0.0.1:50052 127.0.0.1:50053", "1", "127.0.0.1:50051", "127.0.0.1:50051", "replkv-data/node-1",
			"1=127.0.0.1:50051,2=127.0.0.1:50052,3=127.0.0.1:50053"},
		{"-dir d 7 9=localhost:1234 -addr localhost:77", "7", "localhost:77", "localhost:77", "d", "7=localhost:77,9=localhost:1234"},
		{"-host 10.0.0.1 -insecure 3 1=10.0.0.2:7000", "3", "10.0.0.1:50053", "10.0.0.1:50053", "replkv-data/node-3",
			"1=10.0.0.2:7000,3=10.0.0.1:50053"},
		{"-insecure -host 0.0.0.0 -addr 10.0.0.1:7000 3", "3", "10.0.0.1:7000", "0.0.0.0:7000", "replkv-data/node-3", "3=10.0.0.1:7000"},
		{"4 -addr [::1]:7000", "4", "[::1]:7000", "[::1]:7000", "replkv-data/node-4", "4=[::1]:7000"},
	} {
		o, err := parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		got := []string{o.id, o.addr, o.listen, filepath.ToSlash(o.dir), rows(o.members)}
		for i, want := range []string{c.id, c.addr, c.listen, c.dir, c.members} {
			if got[i] != want {
				t.Errorf("%s: got %q, want %q", c.args, got[i], want)
			}
		}
	}
}

func rows(members []replkv.Member) string {
	var have []replkv.MemberStatus
	for _, m := range members {
		have = append(have, replkv.MemberStatus{Member: m})
	}
	return table(have)
}

// Each mistake is one line on stderr, and exit code 1.
func TestErrorLines(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	free := freeAddr(t)
	foreign, file, notOurs := t.TempDir(), filepath.Join(t.TempDir(), "file"), t.TempDir()
	for _, name := range []string{file, filepath.Join(notOurs, "holiday.jpg")} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := replkv.Open(replkv.Config{Dir: foreign, ID: "9"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"", "no id"},
		{"one", `id "one" is not a number`},
		{"0", `id "0" is not a number`},
		{"-1", "flag provided but not defined: -1"},
		{"01", `id "01" is not a number`},
		{"99999", "port 150049 does not exist"},
		{"-colour 1", "flag provided but not defined: -colour"},
		{"1 nonsense", `peer "nonsense" is not host:port`},
		{"1 127.0.0.1:http", `peer "127.0.0.1:http" is not host:port`},
		{"1 127.0.0.1:7000", "write id=127.0.0.1:7000"},
		{"1 x=127.0.0.1:7000", `id "x" is not a number`},
		{"1 1=127.0.0.1:7000", "has node 1 at 127.0.0.1:50051 already"},
		{"1 2=127.0.0.1:7000,3=127.0.0.1:7000", "has node 2 at 127.0.0.1:7000 already"},
		{"1 -addr nonsense", `-addr "nonsense" is not host:port`},
		{"1 -host 10.1.2.3", "10.1.2.3 is not a loopback address"},
		{"1 -host 0.0.0.0", "set -addr, too"},
		{"1 -host 0.0.0.0 -addr 10.1.2.3:7000", "0.0.0.0 is not a loopback address"},
		{"-join 127.0.0.1:50052 1 127.0.0.1:50052", "-join and peers"},
		{"-join nonsense 1", `-join "nonsense" is not host:port`},
		{"-join 127.0.0.1:50052, 1", `-join "" is not host:port`},
		{"-join :50052 1", `-join ":50052" is not host:port`},
		{"-join 127.0.0.1:50051 1", "-join 127.0.0.1:50051 is this node itself"},
		{"1 -cert a.pem", "-cert, -key and -ca belong together"},
		{"1 -cert a -key b -ca c -insecure", "choose one"},
		{"1 -cert a -key b -ca c", "certificate: open a"},
		{"1 -addr " + busy.Addr().String() + " -dir " + t.TempDir(), "address already in use"},
		{"1 -addr " + free + " -dir " + filepath.Join(file, "data"), "not a directory"},
		{"1 -addr " + free + " -dir " + notOurs, "holiday.jpg"},
		{"1 -addr " + free + " -dir " + foreign, `belongs to member "9", not "1"`},
		{"1 -metrics " + busy.Addr().String() + " -addr " + free + " -dir " + t.TempDir(), "-metrics: listen tcp"},
		{"9 -addr " + free + " -dir " + foreign, "holds a store of a single member without Addr"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr)
		line := stderr.String()
		if code != 1 || !strings.Contains(line, c.want) || strings.Count(line, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("node %s: code %d, stdout %q, stderr %q, want a line with %q", c.args, code, &stdout, line, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"-h"}, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "usage: node") || stderr.Len() > 0 {
		t.Errorf("code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
}

// freeAddr is an address that nobody listens on, for those who fail before
// they would.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
