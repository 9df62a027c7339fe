// Command overlay writes an overlay of the installed Go's runtime, with which bubbles of
// testing/synctest repeat, into a directory, and prints its name:
//
//	go test -overlay $(go run ./internal/sim/cmd/overlay -dir /tmp/overlay) ./internal/sim
//
// internal/sim/cmd/replay does that and runs a seed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/replkv/replkv/internal/sim/overlay"
)

func main() {
	dir := flag.String("dir", "", "where to write it")
	flag.Parse()
	name, err := write(*dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "overlay:", err)
		os.Exit(1)
	}
	fmt.Println(name)
}

func write(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("where to? -dir is missing")
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return overlay.Write(strings.TrimSpace(string(goroot)), dir)
}
