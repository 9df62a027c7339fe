//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Everything that a lab makes on this machine carries its name: ck, the pid of
// the run, a letter. That is how a run, or a later one, finds what to remove, and
// nothing else.
var labName = regexp.MustCompile(`\bck(\d+)[a-z]`)

func labDir(name string) string { return filepath.Join(os.TempDir(), "replkv-"+name) }

// sweepDead removes what runs left that are not alive any more.
func sweepDead() error {
	var errs []error
	for _, name := range leftovers() {
		if m := labName.FindStringSubmatch(name); !alive(name, m[1]) {
			errs = append(errs, sweep(name))
		}
	}
	return errors.Join(errs...)
}

// leftovers returns the names of labs of which anything is there.
func leftovers() []string {
	var text strings.Builder
	dirs, _ := filepath.Glob(labDir("ck*"))
	fmt.Fprintln(&text, strings.Join(dirs, "\n"))
	for _, args := range [][]string{{"netns", "list"}, {"-o", "link"}} {
		out, _ := run("ip", args...)
		fmt.Fprintln(&text, out)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	text.Write(mounts)
	seen := map[string]bool{}
	var out []string
	for _, name := range labName.FindAllString(text.String(), -1) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// alive says whether the run of that pid goes on. A pid may be another
// process's by now: then it has started at another time.
func alive(name, pid string) bool {
	now, err := startTime(pid)
	if err != nil {
		return false
	}
	then, err := os.ReadFile(filepath.Join(labDir(name), "started"))
	return err != nil || string(then) == now
}

// startTime returns when a process began, in ticks since the machine did.
func startTime(pid string) (string, error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[19], nil
}

// sweep removes all that a lab made: processes, mounts, namespaces, the bridge,
// cgroups, files.
func sweep(name string) error {
	var errs []error
	spaces, _ := run("ip", "netns", "list")
	for line := range strings.Lines(spaces) {
		ns, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(ns, name+"n") {
			continue
		}
		errs = append(errs, killAll(ns))
	}
	errs = append(errs, unmountAll(labDir(name)+"/"))
	// The cables first: what is left of a namespace goes in its own time, and holds
	// their other ends.
	links, _ := run("ip", "-o", "link")
	for _, m := range regexp.MustCompile(` (`+name+`[bv]\d*)[@:]`).FindAllStringSubmatch(links, -1) {
		_, err := run("ip", "link", "del", m[1])
		errs = append(errs, err)
	}
	for line := range strings.Lines(spaces) {
		if ns, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(ns, name+"n") {
			_, err := run("ip", "netns", "del", ns)
			errs = append(errs, err)
		}
	}
	groups, _ := filepath.Glob(filepath.Join(blkio, name+"n*"))
	for _, g := range groups {
		errs = append(errs, eventually(5*time.Second, func() error { return os.Remove(g) }))
	}
	return errors.Join(append(errs, os.RemoveAll(labDir(name)))...)
}

// killAll ends the processes of a namespace.
func killAll(ns string) error {
	return eventually(10*time.Second, func() error {
		out, err := run("ip", "netns", "pids", ns)
		if err != nil {
			return err
		}
		pids := strings.Fields(out)
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if len(pids) > 0 {
			return fmt.Errorf("processes %v of %s do not end", pids, ns)
		}
		return nil
	})
}

// unmountAll unmounts what lies below a directory.
func unmountAll(below string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	errs := []error{err}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], below) {
			errs = append(errs, unmount(f[1]))
		}
	}
	return errors.Join(errs...)
}

func unmount(dir string) error {
	err := eventually(10*time.Second, func() error { return syscall.Unmount(dir, 0) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
