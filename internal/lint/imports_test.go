package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	pebbleModule = "github.com/cockroachdb/pebble"
	raftModule   = "github.com/hashicorp/raft"
	boltModule   = "github.com/hashicorp/raft-boltdb"
	grpcModule   = "google.golang.org/grpc"
)

// importRule restricts what packages import. With reach it counts what they
// reach through other packages of this module, too.
type importRule struct {
	why   string
	in    []string // the packages that the rule is for, with those below; empty: all
	but   []string // except for these
	reach bool
	// Either never or only is set. Entries are import paths, which stand for
	// what is below them as well; "std" is the standard library. Packages of this
	// module begin with "./".
	never []string
	only  []string
}

var importRules = []importRule{
	{
		why: "kv is the vocabulary of processes that do not embed the store: it must cost them nothing",
		in:  []string{"kv"}, only: []string{"std", "./kv"},
	},
	{
		why: "the state machine is tested, and reasoned about, without consensus or network",
		in:  []string{"store"}, but: []string{"store/raftlog", "store/boltlog"}, reach: true,
		never: []string{raftModule, grpcModule, "./transport", "./api"},
	},
	{
		why: "a log store knows raft's interfaces, but no network and no state machine",
		in:  []string{"store/raftlog", "store/boltlog"}, reach: true,
		never: []string{grpcModule, "./transport", "./api", "./internal"},
	},
	{
		why:   "the engine can be exchanged as long as one directory knows it",
		but:   []string{"store"},
		never: []string{pebbleModule},
	},
	{
		why: "raft shows only where it is fed: the handle, its log, its network",
		but: []string{".", "store/raftlog", "store/boltlog", "transport"}, never: []string{raftModule},
	},
	{
		why:   "an application that has a raft-boltdb which does not build with our raft must still build: only who wants bolt imports it",
		but:   []string{"store/boltlog", "examples"},
		never: []string{"./store/boltlog", boltModule, "go.etcd.io/bbolt", "github.com/boltdb/bolt"},
	},
	{
		why:   "what a store counts are plain numbers: who watches it is the application's choice",
		but:   []string{"metrics", "examples"},
		never: []string{"github.com/prometheus"},
	},
	{
		why: "a client process links neither engine nor raft",
		in:  []string{"client"}, reach: true,
		only: []string{"std", "./client", "./kv", "./api", "./internal/wireerr", "./internal/optimistic", "./internal/keepalive", grpcModule, "google.golang.org/protobuf", "google.golang.org/genproto"},
	},
	{
		why: "locks and elections are for the embedded handle and for client processes alike",
		in:  []string{"concurrency"}, only: []string{"std", "./kv", "./concurrency"},
	},
	{
		why: "the transport moves bytes: what they mean is the handle's business",
		in:  []string{"transport"}, reach: true,
		never: []string{pebbleModule, "./store", "./internal/command"},
	},
	{
		why: "commands are a format: pure functions over bytes",
		in:  []string{"internal/command"}, only: []string{"std", "./kv", "./internal/command"},
	},
	{
		why:   "test helpers pull package testing, and its flags, into the host",
		but:   []string{"replkvtest", "store/raftlog/logtest", "internal/service/kvtest", "internal/sim"},
		never: []string{"testing", "./replkvtest"},
	},
	{
		why:   "a fake network is for tests",
		but:   []string{"replkvtest", "transport/memnet", "internal/sim"},
		never: []string{"./transport/memnet"},
	},
	{
		why:   "the checker of histories, and the simulation, are for tests",
		but:   []string{"replkvtest", "internal/sim"},
		never: []string{"github.com/anishathalye/porcupine", "./internal/sim"},
	},
	{
		why:   "expvar and net/http/pprof register themselves with the whole process",
		never: []string{"expvar", "net/http/pprof"},
	},
}

func TestImports(t *testing.T) { report(t, checkImports(repository(t))) }

func checkImports(pkgs []pkg) (complaints []string) {
	for _, rule := range importRules {
		for _, p := range pkgs {
			if len(rule.in) > 0 && !p.in(rule.in...) || excepted(p, rule.but) {
				continue
			}
			complaints = append(complaints, rule.check(p, pkgs)...)
		}
	}
	return complaints
}

// excepted is like in, but "." means the root package only.
func excepted(p pkg, but []string) bool {
	return slices.ContainsFunc(but, func(d string) bool { return d == p.dir || d != "." && p.in(d) })
}

func (r importRule) check(p pkg, pkgs []pkg) (complaints []string) {
	for name, via := range reached(p, pkgs, r.reach) {
		matches := func(entry string) bool { return matchImport(entry, name) }
		if len(r.only) > 0 && !slices.ContainsFunc(r.only, matches) || slices.ContainsFunc(r.never, matches) {
			complaints = append(complaints, fmt.Sprintf("package %s imports %s%s: %s", p.dir, name, via, r.why))
		}
	}
	slices.Sort(complaints)
	return complaints
}

// reached returns the imports of p, and with deep those of the packages of
// this module behind them, each with the way to it.
func reached(p pkg, pkgs []pkg, deep bool) map[string]string {
	out := map[string]string{}
	var visit func(p pkg, via string)
	visit = func(p pkg, via string) {
		for _, name := range p.imports() {
			if _, seen := out[name]; seen {
				continue
			}
			out[name] = via
			for _, q := range pkgs {
				if deep && name == module+"/"+q.dir {
					visit(q, via+" through "+q.dir)
				}
			}
		}
	}
	visit(p, "")
	return out
}

func matchImport(entry, name string) bool {
	if entry == "std" {
		first, _, _ := strings.Cut(name, "/")
		return !strings.Contains(first, ".")
	}
	if rest, ok := strings.CutPrefix(entry, "./"); ok {
		entry = module + "/" + rest
	}
	return name == entry || strings.HasPrefix(name, entry+"/")
}

func TestImportsPlanted(t *testing.T) {
	for _, c := range []struct{ dir, imports, want string }{
		{"kv", "google.golang.org/grpc/codes", "package kv imports google.golang.org/grpc/codes"},
		{"kv", module + "/internal/command", "package kv imports"},
		{"store", raftModule, "package store imports " + raftModule},
		{"store/disk", grpcModule, "package store/disk imports"},
		{"store", module + "/helper", "imports " + raftModule + " through helper"},
		{"store/raftlog", grpcModule, "package store/raftlog imports"},
		{".", pebbleModule + "/v2/vfs", "package . imports " + pebbleModule},
		{".", module + "/store/boltlog", "only who wants bolt imports it"},
		{"store/raftlog", boltModule + "/v2", "only who wants bolt imports it"},
		{"store/boltlog", grpcModule, "package store/boltlog imports"},
		{"replkvtest", pebbleModule + "/v2/vfs", "package replkvtest imports"},
		{"internal/service", raftModule, "package internal/service imports"},
		{"client", module, "package client imports"},
		{"client", module + "/helper", "imports " + module + "/helper"},
		{"concurrency", module + "/client", "package concurrency imports"},
		{"transport", module + "/store", "package transport imports"},
		{"internal/command", "github.com/x/y", "package internal/command imports"},
		{".", "testing", "package . imports testing"},
		{".", module + "/replkvtest", "package . imports"},
		{"examples/node", module + "/transport/memnet", "fake network"},
		{"store", "github.com/anishathalye/porcupine", "for tests"},
		{".", "github.com/prometheus/client_golang/prometheus", "package . imports github.com/prometheus"},
		{"metrics", "expvar", "package metrics imports expvar"},
	} {
		pkgs := []pkg{
			planted(t, c.dir, "package p\nimport _ \""+c.imports+"\"\n"),
			planted(t, "helper", "package helper\nimport _ \""+raftModule+"\"\n"),
		}
		wantComplaint(t, checkImports(pkgs), c.want)
	}
	fine := planted(t, "store/raftlog", "package raftlog\nimport _ \""+raftModule+"\"\nimport _ \""+pebbleModule+"/v2\"\n")
	report(t, checkImports([]pkg{fine}))
}

// A renamed directory must not leave its rule behind unseen.
func TestImportRulesApply(t *testing.T) {
	pkgs := repository(t)
	for _, rule := range importRules {
		for _, d := range rule.in {
			if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.in(d) }) {
				t.Errorf("a rule is about package %s, which is not there", d)
			}
		}
	}
}
