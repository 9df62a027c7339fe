package main

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/replkv/replkv"
	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// A node joins the cluster while it runs, comes back at another address, and is
// removed: then it stops, and says why.
func TestJoinMoveRemove(t *testing.T) {
	procs := startThree(t, func(string) []string { return nil })
	text, cluster := replkvv1.NewTextKVClient(procs[0].dial(t)), replkvv1.NewClusterClient(procs[0].dial(t))
	ctx := t.Context()
	if _, err := text.Set(ctx, &replkvv1.TextSetRequest{Key: "k", Value: "v"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "4")
	get := func(p *proc) {
		t.Helper()
		if r, err := replkvv1.NewTextKVClient(p.dial(t)).Get(ctx, &replkvv1.TextGetRequest{Key: "k"}); err != nil || r.GetValue() != "v" {
			t.Fatal(r, err)
		}
	}

	l := listen(t)
	fourth := start(t, l, "-addr", l.Addr().String(), "-dir", dir, "-join", procs[0].opts.addr+","+procs[1].opts.addr, "4")
	get(fourth)
	if out := fourth.ready(t); !strings.Contains(out, " 4 member(s)") {
		t.Errorf("stdout %q", out)
	}
	fourth.end(t)

	l = listen(t)
	moved := start(t, l, "-addr", l.Addr().String(), "-dir", dir, "-join", procs[0].opts.addr, "4")
	get(moved)

	if m, err := cluster.Remove(ctx, &replkvv1.RemoveRequest{Id: "4"}); err != nil || len(m.GetMembers()) != 3 {
		t.Fatal(m, err)
	}
	select {
	case err := <-moved.done:
		close(moved.done)
		if !errors.Is(err, replkv.ErrRemoved) {
			t.Errorf("the removed node ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the removed node goes on")
	}
	var stdout, stderr buffer
	if code := run(ctx, []string{"-addr", freeAddr(t), "-dir", dir, "-join", procs[0].opts.addr, "4"}, &stdout, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "was removed") || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("started again: code %d, stderr %q", code, stderr.String())
	}
}

func TestMetrics(t *testing.T) {
	l := listen(t)
	p := start(t, l, "-addr", l.Addr().String(), "-dir", t.TempDir(), "-metrics", "127.0.0.1:0", "1")
	url := regexp.MustCompile(`http://\S+`).FindString(p.ready(t))
	r, err := http.Get(url)
	if err != nil {
		t.Fatalf("%q: %v", p.stdout.String(), err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(body), `replkv_role{member="1",role="leader"} 1`) {
		t.Errorf("%v: %s", err, body)
	}
	p.end(t)
	if _, err := http.Get(url); err == nil {
		t.Error("metrics are served after the end")
	}
}
