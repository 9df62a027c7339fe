//go:build linux

package chaos

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// trouble collects what must not happen.
type trouble struct {
	mu    sync.Mutex // protects found
	found []string

	marked map[string]int // how often members have logged each of marks
}

// marks are what members log that a long run should have seen.
var marks = []string{"snapshot installed", "snapshot taken", "clearing log suffix"}

// violation notes one, once.
func (l *lab) violation(format string, args ...any) {
	l.trouble.mu.Lock()
	defer l.trouble.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(l.found, text) {
		l.found = append(l.found, text)
	}
}

// hopeless says whether something was found already: then nothing is waited for.
func (l *lab) hopeless() bool {
	l.trouble.mu.Lock()
	defer l.trouble.mu.Unlock()
	return len(l.found) > 0
}

// violations returns those that were found since the last call.
func (l *lab) violations() []string {
	l.trouble.mu.Lock()
	defer l.trouble.mu.Unlock()
	found := l.found
	l.found = nil
	return found
}

// alarms are words that no member's log has, whatever happened to it.
var alarms = [][]byte{[]byte("panic"), []byte("DATA RACE"), []byte("fatal error"), []byte("corrupt"), []byte("goroutine ")}

// readLogs looks through what the members have logged since it last did.
func (l *lab) readLogs() {
	for _, n := range l.nodes {
		text, err := n.newLog()
		if err != nil {
			l.violation("%v's log: %v", n, err)
		}
		for _, m := range marks {
			l.marked[m] += bytes.Count(text, []byte(m))
		}
		for line := range bytes.Lines(text) {
			for _, alarm := range alarms {
				if bytes.Contains(line, alarm) {
					l.violation("%v logs: %s", n, bytes.TrimSpace(line))
					break
				}
			}
		}
	}
}

func (n *node) newLog() ([]byte, error) {
	f, err := os.Open(n.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(n.scanned, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the rest of a line comes later
	n.scanned += int64(len(text))
	return text, err
}
