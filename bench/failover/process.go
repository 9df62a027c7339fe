package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// call is a Set as its caller saw it.
type call struct {
	began, ended time.Time
	err          string // "": acknowledged
}

// process is a member as the parent sees it, over all its starts.
type process struct {
	o          *options
	id, addr   string
	table      string
	generation uint64
	cmd        *exec.Cmd
	in         io.WriteCloser
	answers    chan string
	ready      chan struct{}
	drained    chan struct{} // closed at the end of its output

	mu    sync.Mutex // protects the fields below
	calls []call     // in the order of their ends, nearly
	acked map[string]uint64
	items map[string]uint64 // of the dump under way
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (p *process) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.generation++
	p.cmd = exec.Command(self, "-role", "member", "-id", p.id, "-table", p.table, "-dir", filepath.Join(p.o.dir, p.id),
		"-callers", strconv.Itoa(p.o.callers), "-value", strconv.Itoa(p.o.value), "-election", p.o.election.String(),
		"-generation", strconv.FormatUint(p.generation, 10), fmt.Sprintf("-logs=%v", p.o.logs))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.answers, p.ready, p.drained = make(chan string, 1), make(chan struct{}), make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.read(out)
	return nil
}

// read takes the lines of one start.
func (p *process) read(out io.Reader) {
	defer close(p.drained)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "call":
			p.note(rest)
		case "item":
			k, number, _ := strings.Cut(rest, " ")
			n, _ := strconv.ParseUint(number, 10, 64)
			p.mu.Lock()
			p.items[k] = n
			p.mu.Unlock()
		case "ready":
			close(p.ready)
		case "answer":
			p.answers <- rest
		}
	}
}

func (p *process) note(line string) {
	f := strings.SplitN(line, " ", 5)
	if len(f) != 5 {
		return // cut off by a kill
	}
	var n [4]int64
	for i := range n {
		n[i], _ = strconv.ParseInt(f[i], 10, 64)
	}
	c := call{began: time.Unix(0, n[2]), ended: time.Unix(0, n[3])}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f[4] != "ok" {
		c.err = f[4]
	} else {
		p.acked[key(p.id, int(n[0]), uint64(n[1]))] = uint64(n[1])
	}
	p.calls = append(p.calls, c)
}

// since returns the calls that ended at or after t.
func (p *process) since(t time.Time) (out []call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if !c.ended.Before(t) {
			out = append(out, c)
		}
	}
	return out
}

func (p *process) ask(command string) (string, error) {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return "", err
	}
	select {
	case a := <-p.answers:
		return a, nil
	case <-p.drained:
	case <-time.After(30 * time.Second):
	}
	return "", fmt.Errorf("member %s does not answer %q", p.id, command)
}

// status returns what the member says of itself.
func (p *process) status() (role, leader string, applied uint64, err error) {
	a, err := p.ask("status")
	if err == nil {
		_, err = fmt.Sscanf(a, "%s %s %d", &role, &leader, &applied)
	}
	return role, leader, applied, err
}

// ended waits for the process after its end was brought about.
func (p *process) ended() {
	<-p.drained
	p.cmd.Wait()
	p.in.Close()
}
