package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrVersion means that the patches do not fit this version of Go.
var ErrVersion = errors.New("the patches do not fit this version of Go")

// Env is what a test binary that was built with the overlay must run with. Without
// profstackdepth=0 each thread has room for a stack trace in the heap.
var Env = []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1,profstackdepth=0", "GOGC=off"}

// BuildEnv is what it must be built with: a C function is a system call of unknown length.
var BuildEnv = []string{"CGO_ENABLED=0"}

// Write patches what is below goroot into dir, and returns the name of the overlay for
// go build.
func Write(goroot, dir string) (name string, err error) {
	replace := map[string]string{}
	text := map[string]string{}
	for _, p := range patches {
		path := filepath.Join(goroot, "src", filepath.FromSlash(p.file))
		if _, ok := text[path]; !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", fmt.Errorf("%w: %w", ErrVersion, err)
			}
			text[path] = string(b)
		}
		if n := strings.Count(text[path], p.old); n != 1 {
			return "", fmt.Errorf("%w: %s has %d times %q", ErrVersion, p.file, n, p.old)
		}
		text[path] = strings.Replace(text[path], p.old, p.new, 1)
		replace[path] = filepath.Join(dir, strings.ReplaceAll(p.file, "/", "-"))
	}
	for path, t := range text {
		if err := os.WriteFile(replace[path], []byte(t), 0o644); err != nil {
			return "", err
		}
	}
	b, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", err
	}
	name = filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, b, 0o644)
}
