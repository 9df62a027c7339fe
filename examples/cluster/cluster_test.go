package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-demo"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("code %d, stderr %q, stdout:\n%s", code, &stderr, &stdout)
	}
	for _, want := range []string{"all three are ready", "revision 2", "not found", "killed the leader", "still Potsdam", "caught up"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in:\n%s", want, &stdout)
		}
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Without -demo it serves until its ctx ends, as Ctrl-C makes it.
func TestServes(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout := writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "until Ctrl-C") {
			stop()
		}
		return len(p), nil
	})
	var stderr bytes.Buffer
	if code := run(ctx, []string{"-dir", t.TempDir()}, stdout, &stderr); code != 0 {
		t.Errorf("code %d, stderr %q", code, &stderr)
	}
	if ctx.Err() == nil {
		t.Error("it ended by itself")
	}
}

func TestBadArguments(t *testing.T) {
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-colour"}, {"-dir", used}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != 1 || stderr.Len() == 0 {
			t.Errorf("%q: code %d, stderr %q", args, code, &stderr)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
