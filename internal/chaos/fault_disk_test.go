//go:build linux

package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// blkio is where cgroups (v1) throttle disks.
const blkio = "/sys/fs/cgroup/blkio"

// throttled may write so many times a second.
type throttled struct {
	n     *node
	iops  int
	group string
}

func slowDisk(n *node, rng *rand.Rand) fault { return &throttled{n: n, iops: 10 + rng.IntN(90)} }

func (f *throttled) begin() error {
	pid := f.n.running()
	device, err := f.n.device()
	if err != nil || pid == 0 {
		return errors.Join(err, errDown)
	}
	f.group = filepath.Join(blkio, f.n.ns)
	if err := os.Mkdir(f.group, 0o755); err != nil {
		return err
	}
	set := func(file, value string) {
		err = errors.Join(err, os.WriteFile(filepath.Join(f.group, file), []byte(value), 0o644))
	}
	set("blkio.throttle.write_iops_device", fmt.Sprintf("%s %d", device, f.iops))
	set("cgroup.procs", fmt.Sprint(pid))
	return err
}

func (f *throttled) end() error {
	if f.group == "" {
		return nil
	}
	var err error
	if pid := f.n.running(); pid != 0 {
		err = os.WriteFile(filepath.Join(blkio, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644)
	}
	return errors.Join(err, eventually(10*time.Second, func() error { return os.Remove(f.group) }))
}

func canThrottle(n *node) error {
	if _, err := os.Stat(filepath.Join(blkio, "cgroup.procs")); err != nil {
		return fmt.Errorf("no cgroup v1 blkio: %w", err)
	}
	return try(&throttled{n: n, iops: 1000})
}

// traced has strace between it and its kernel, which does something to fsync.
type traced struct {
	n      *node
	inject string
	broken bool // the member ends by it
	cmd    *exec.Cmd
	ended  chan struct{}
}

func slowSync(n *node, rng *rand.Rand) fault {
	return &traced{n: n, inject: fmt.Sprintf("delay_enter=%d", between(rng, 20*ms, 300*ms).Microseconds())}
}

// failSync lets some succeed first, so that the failure meets different moments.
func failSync(n *node, rng *rand.Rand) fault {
	return &traced{n: n, inject: fmt.Sprintf("error=EIO:when=%d+", 1+rng.IntN(20)), broken: true}
}

func (f *traced) begin() error {
	pid := f.n.running()
	if pid == 0 {
		return errDown
	}
	// Not in the member's network, and not the member's parent: it attaches.
	f.cmd = exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:"+f.inject,
		"-p", fmt.Sprint(pid))
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var said strings.Builder
	f.cmd.Stderr = &said
	f.ended = make(chan struct{})
	if err := launch(f.cmd, func(error) { close(f.ended) }); err != nil {
		f.cmd = nil
		return err
	}
	return eventually(2*time.Second, func() error {
		select {
		case <-f.ended:
			return fmt.Errorf("strace: %s", said.String())
		default:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
			err = errors.New("strace does not attach")
		}
		return err
	})
}

func (f *traced) end() error {
	if f.cmd != nil {
		f.cmd.Process.Signal(syscall.SIGINT) // it detaches
		t := time.AfterFunc(5*time.Second, func() { f.cmd.Process.Kill() })
		<-f.ended
		t.Stop()
	}
	if f.broken {
		return f.n.revive()
	}
	return nil
}

func canTrace(n *node) error {
	return cmp.Or(missing("strace"), try(&traced{n: n, inject: "delay_enter=1"}))
}

// full is a disk without a free block, until somebody removes something.
type full struct{ n *node }

func (f full) begin() error { return f.n.fill() }
func (f full) end() error   { return errors.Join(f.n.unfill(), f.n.revive()) }

// revive starts a member that the fault has ended, which may be happening now.
func (n *node) revive() error {
	time.Sleep(100 * ms)
	return n.start()
}

// power is a power loss.
type power struct{ nodes []*node }

// begin freezes all, then cuts all: nothing is acknowledged in between.
func (f power) begin() error {
	var errs []error
	for _, step := range []func(*node) error{(*node).freeze, (*node).cutPower, (*node).kill} {
		for _, n := range f.nodes {
			errs = append(errs, step(n))
		}
	}
	return errors.Join(errs...)
}

func (f power) end() error {
	var errs []error
	for _, n := range f.nodes {
		errs = append(errs, n.reboot(), n.start())
	}
	return errors.Join(errs...)
}
