package overlay

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite: the patches fit the Go that runs the tests, or it is said why not.
func TestWrite(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command: ", err)
	}
	name, err := Write(strings.TrimSpace(string(goroot)), t.TempDir())
	if errors.Is(err, ErrVersion) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), "runtime-rand.go") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestAnotherVersion: text that is missing, or there twice, is told.
func TestAnotherVersion(t *testing.T) {
	root := t.TempDir()
	if _, err := Write(root, t.TempDir()); !errors.Is(err, ErrVersion) {
		t.Errorf("without sources: %v", err)
	}
	for _, p := range patches {
		path := filepath.Join(root, "src", filepath.FromSlash(p.file))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Repeat(p.old, 2)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Write(root, t.TempDir()); !errors.Is(err, ErrVersion) {
		t.Errorf("with text that is there twice: %v", err)
	}
}
