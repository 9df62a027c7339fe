//go:build linux

package chaos

import (
	"errors"
	"syscall"
)

// kill is SIGKILL, and a start.
type kill struct{ n *node }

func (f kill) begin() error { return f.n.kill() }
func (f kill) end() error   { return f.n.start() }

func killAllOf(l *lab) fault {
	var all several
	for _, n := range l.nodes {
		all = append(all, kill{n})
	}
	return all
}

// pause stops the process and lets it go on.
type pause struct{ n *node }

func (f pause) begin() error { return f.n.signal(syscall.SIGSTOP) }

func (f pause) end() error {
	if err := f.n.signal(syscall.SIGCONT); err != nil && !errors.Is(err, errDown) {
		return err
	}
	return nil
}
