//go:build linux

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/client"
)

// node is a machine and the member on it.
type node struct {
	l          *lab
	id         int
	ns, addr   string
	image, mnt string
	log        string

	conn   *grpc.ClientConn
	status replkvv1.ClusterClient
	kv     *client.Client // through this member only

	scanned int64 // bytes of the log that were looked at
	began   int64 // where the log of the present process begins

	mu       sync.Mutex // protects the fields below
	cmd      *exec.Cmd
	ended    chan struct{}   // closed when the process has
	killed   bool            // by us: it need not say why
	explains map[string]bool // ends that faults explain
	ends     map[string]int  // those that happened, explained
}

func (n *node) String() string { return fmt.Sprintf("member %d", n.id) }

// inside runs a tool in the member's network.
func (n *node) inside(args ...string) (string, error) { return n.insideFed("", args...) }

func (n *node) insideFed(input string, args ...string) (string, error) {
	return feed(input, "nsenter", append([]string{"--net=/run/netns/" + n.ns, "--"}, args...)...)
}

// child is a process in the member's network that ends with this one.
func (n *node) child(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + n.ns, "--"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // ctrl-C is for us, who sweep
	return cmd
}

// launch starts cmd and calls ended when it has. The kernel's notion of a parent
// that dies is a thread: it has to stay.
func launch(cmd *exec.Cmd, ended func(error)) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-started
}

// dial connects the test to the member.
func (n *node) dial() (err error) {
	again := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}
	if n.conn, err = grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 300 * time.Millisecond})); err != nil {
		return err
	}
	n.status = replkvv1.NewClusterClient(n.conn)
	n.kv, err = client.Dial(client.Config{Endpoints: []string{n.addr}, Insecure: true, RequestTimeout: 3 * time.Second})
	return err
}

func (n *node) close() {
	if n.kv != nil {
		n.kv.Close()
	}
	if n.conn != nil {
		n.conn.Close()
	}
}

// start starts the member if it does not run.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil || n.l.over.Load() {
		return nil
	}
	var peers []string
	for i := range 3 {
		peers = append(peers, fmt.Sprintf("%d=%s.%d:%s", i+1, n.l.subnet, i+1, port))
	}
	args := []string{os.Args[0], "-id", fmt.Sprint(n.id), "-peers", strings.Join(peers, ","), "-dir", filepath.Join(n.mnt, "data")}
	if n.l.lie {
		args = append(args, "-lie")
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		return err
	}
	n.began = info.Size()
	cmd := n.child(args...)
	cmd.Env = append(os.Environ(), roleEnv+"=member", "GOMEMLIMIT=512MiB")
	cmd.Stdout, cmd.Stderr = out, out
	ended := make(chan struct{})
	n.cmd, n.ended, n.killed = cmd, ended, false
	if err := launch(cmd, func(err error) { n.gone(err); close(ended) }); err != nil {
		n.cmd = nil
		return err
	}
	return nil
}

// gone notes the end of the process, and complains if nothing explains it.
func (n *node) gone(err error) {
	why := n.lastWords()
	n.mu.Lock()
	killed := n.killed
	n.cmd = nil
	class, _, _ := strings.Cut(strings.TrimPrefix(why, endedMark), ":")
	explained := n.explains[class]
	if explained && !killed {
		if n.ends == nil {
			n.ends = map[string]int{}
		}
		n.ends[class]++
	}
	n.mu.Unlock()
	if !killed && !explained {
		n.l.violation("%v ended by itself (%v), and no fault explains it: %s", n, err, why)
	}
}

// lastWords is the last line of the process that says why it ended.
func (n *node) lastWords() string {
	b, _ := os.ReadFile(n.log)
	b = b[min(n.began, int64(len(b))):]
	i := bytes.LastIndex(b, []byte(endedMark))
	if i < 0 {
		return "it does not say why"
	}
	line, _, _ := strings.Cut(string(b[i:]), "\n")
	return line
}

// explain says which ends are no surprise, until unexplain.
func (n *node) explain(classes ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range classes {
		n.explains[c] = true
	}
}

func (n *node) unexplain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.explains)
}

// running returns the pid; 0 if the member does not run.
func (n *node) running() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

func (n *node) signal(s syscall.Signal) error {
	if pid := n.running(); pid != 0 {
		return syscall.Kill(pid, s)
	}
	return errDown
}

var errDown = errors.New("the member does not run")

// freeze stops the member, and waits until no thread of it runs: those that are in
// a system call of the disk stop when it returns. One that does not run is fine.
func (n *node) freeze() error {
	if err := n.signal(syscall.SIGSTOP); err != nil {
		return nil
	}
	pid := n.running()
	return eventually(5*time.Second, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, name := range threads {
			stat, _ := os.ReadFile(name) // it may have ended
			if i := bytes.LastIndexByte(stat, ')'); i > 0 && !bytes.ContainsAny(stat[i+2:i+3], "TtDZX") {
				return fmt.Errorf("a thread of %v does not stop: %s", n, stat)
			}
		}
		return err
	})
}

// kill ends the member as SIGKILL does, and waits for its end. A member that
// does not run is fine.
func (n *node) kill() error {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.killed = cmd != nil
	n.mu.Unlock()
	if cmd == nil {
		return nil
	}
	cmd.Process.Kill()
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-ended:
		return nil
	case <-t.C:
		return fmt.Errorf("%v does not die", n)
	}
}

// tell asks the member for its status.
func (n *node) tell(ctx context.Context) (*replkvv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return n.status.Status(ctx, &replkvv1.StatusRequest{})
}

// up starts those members that are down.
func (l *lab) up() error {
	var errs []error
	for _, n := range l.nodes {
		errs = append(errs, n.start())
	}
	return errors.Join(errs...)
}

// waitReady waits until each member answers a linearizable read: then it has
// caught up, too.
func (l *lab) waitReady(t *testing.T, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, n := range l.nodes {
		for {
			_, err := n.kv.Revision(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil || n.running() == 0 && l.hopeless() {
				l.violation("%v serves no reads after all faults have ended, within %v: %v", n, within, err)
				return false
			}
			time.Sleep(20 * time.Millisecond)
			if err := l.up(); err != nil { // it may have ended late
				t.Fatal(err)
			}
		}
	}
	return true
}

// leader returns the member that leads, nil if none says so.
func (l *lab) leader(ctx context.Context) *node {
	var lead *node
	term := uint64(0)
	for _, n := range l.nodes {
		if s, err := n.tell(ctx); err == nil && s.Role == "leader" && s.Term > term {
			lead, term = n, s.Term
		}
	}
	return lead
}
