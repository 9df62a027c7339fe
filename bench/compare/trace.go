package main

import (
	"iter"
	"regexp"
	"strings"
)

// A syncedSet is what was synced between the call of a set and its answer.
type syncedSet struct {
	syncs   int
	members map[string]bool // whose files
}

var (
	traceMark = regexp.MustCompile(`replkv-bench-mark:(begin|end):(\d+)"`)
	traceSync = regexp.MustCompile(`^(\d+)\s+(?:fsync|fdatasync)\(\d+<(.*)>(\)| <unfinished)`)
	traceDone = regexp.MustCompile(`^(\d+)\s+<\.\.\. (?:fsync|fdatasync) resumed>`)
	memberDir = regexp.MustCompile(`replkv-bench-[^/]+/(m\d+)(?:/|$)`)
)

// readTrace finds the sets in a trace by strace -f -y. Lines are in the order
// in which calls began, or, "resumed", ended; a sync counts when it has ended
// with success.
func readTrace(lines iter.Seq[[]byte]) []syncedSet {
	var sets []syncedSet
	open := false                  // between begin and end
	pending := map[string]string{} // the file that a thread is syncing
	for b := range lines {
		line := strings.TrimSpace(string(b))
		done := ""
		if m := traceMark.FindStringSubmatch(line); m != nil {
			if open = m[1] == "begin"; open {
				sets = append(sets, syncedSet{members: map[string]bool{}})
			}
		} else if m := traceSync.FindStringSubmatch(line); m != nil {
			if done = m[2]; m[3] != ")" {
				pending[m[1]], done = m[2], ""
			}
		} else if m := traceDone.FindStringSubmatch(line); m != nil {
			done = pending[m[1]]
			delete(pending, m[1])
		}
		if done != "" && open && strings.HasSuffix(line, "= 0") {
			s := &sets[len(sets)-1]
			s.syncs++
			if m := memberDir.FindStringSubmatch(done); m != nil {
				s.members[m[1]] = true
			}
		}
	}
	return sets
}
