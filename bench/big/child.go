package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replkv/replkv"
)

// child is a member in a process of its own. It answers each command on its
// standard input with one line:
//
//	role         leader, follower, ...
//	log          bytes applied since its last snapshot
//	load, stop   begins and ends a load of Sets
//	close        closes the store
func child(o *options) error {
	began := time.Now()
	cfg := o.config()
	cfg.Dir, cfg.ID = o.dir, o.id
	for pair := range strings.SplitSeq(o.table, ",") {
		id, addr, _ := strings.Cut(pair, "=")
		cfg.InitialCluster = append(cfg.InitialCluster, replkv.Member{ID: id, Addr: addr})
		if id == o.id {
			cfg.Addr, cfg.Listen = addr, addr
		}
	}
	var db atomic.Pointer[replkv.DB]
	var cut atomic.Uint64 // Metrics.AppliedBytes at the last snapshot
	cfg.Events.SnapshotTaken = func(replkv.SnapshotEvent) {
		if db := db.Load(); db != nil {
			cut.Store(db.Metrics().AppliedBytes)
		}
	}
	member, err := replkv.Open(cfg)
	if err != nil {
		return err
	}
	db.Store(member)
	opened := time.Since(began)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := member.Ready(ctx); err != nil {
		return err
	}
	fmt.Println("ready", opened.Microseconds(), time.Since(began).Microseconds(), member.Metrics().AppliedBytes)
	var l *load
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := "ok", error(nil)
		switch in.Text() {
		case "role":
			answer = member.Status().Role
		case "log":
			answer = fmt.Sprint(member.Metrics().AppliedBytes - cut.Load())
		case "load":
			l = setLoad(member, o)
		case "stop":
			err = l.end()
		case "close":
			err = member.Close()
		}
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return member.Close() // the parent is gone
}

// process is a child as the parent sees it.
type process struct {
	o         *options
	id, table string
	cmd       *exec.Cmd
	mu        sync.Mutex // one command at a time
	in        io.WriteCloser
	out       *bufio.Scanner
}

// ready is what a child says once it is.
type ready struct {
	opened, ready time.Duration // since the process began to open
	total         time.Duration // since it was started
	applied       int64         // bytes of the log
}

func (p *process) start() (r ready, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	p.cmd = exec.Command(self, "-role", "member", "-id", p.id, "-table", p.table, "-dir", filepath.Join(p.o.dir, "three", p.id),
		"-size", p.o.size.String(), "-value", strconv.Itoa(p.o.value), "-callers", strconv.Itoa(p.o.callers), "-cache", p.o.cache.String(),
		fmt.Sprintf("-logs=%v", p.o.logs))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return r, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	p.out = bufio.NewScanner(stdout)
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return r, err
	}
	line, err := p.line()
	if err != nil {
		return r, err
	}
	r.total = time.Since(began)
	var opened, up int64
	_, err = fmt.Sscanf(line, "ready %d %d %d", &opened, &up, &r.applied)
	r.opened, r.ready = time.Duration(opened)*time.Microsecond, time.Duration(up)*time.Microsecond
	return r, err
}

func (p *process) line() (string, error) {
	if p.out.Scan() {
		return p.out.Text(), nil
	}
	return "", fmt.Errorf("member %s ended: %v", p.id, p.out.Err())
}

func (p *process) ask(command string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return "", err
	}
	return p.line()
}

// closed closes the member and waits for its process.
func (p *process) closed() error {
	_, err := p.ask("close")
	p.in.Close()
	p.out.Scan()
	p.cmd.Wait()
	return err
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}
