package sim

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/replkv/replkv"
)

// maxLines bounds what is kept of a run.
const maxLines = 50_000

// timeline is what happened, in virtual time.
type timeline struct {
	began time.Time

	mu    sync.Mutex // protects the field below
	lines []line
}

type line struct {
	at   time.Duration
	who  string // a member, or "nemesis"
	what string
}

func (l line) String() string { return fmt.Sprintf("%9.3fs %-8s %s", l.at.Seconds(), l.who, l.what) }

func (l *timeline) add(who, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) < maxLines {
		l.lines = append(l.lines, line{time.Since(l.began), who, fmt.Sprintf(format, args...)})
	}
}

// all returns the lines, of one only if who is not "".
func (l *timeline) all(who string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, x := range l.lines {
		if who == "" || x.who == who {
			fmt.Fprintln(&b, x)
		}
	}
	return b.String()
}

// events tells the timeline, and the counters, what a member says of itself.
func (r *run) events(who string) replkv.EventListener {
	snapshot := func(what, counter string) func(replkv.SnapshotEvent) {
		return func(e replkv.SnapshotEvent) {
			if e.Err == nil {
				r.count(counter)
			}
			r.log.add(who, "snapshot %s: index %d, %d bytes %s %v", what, e.Index, e.Bytes, e.Peer, e.Err)
		}
	}
	return replkv.EventListener{
		LeaderChanged: func(e replkv.Election) {
			if e.LeaderID == who {
				r.count(countElections)
			}
			r.log.add(who, "leader of term %d: %q (%s)", e.Term, e.LeaderID, e.Reason)
		},
		MembershipChanged: func(m replkv.Membership) { r.log.add(who, "members: %+v", m) },
		SnapshotTaken:     snapshot("taken", countSnapshots),
		SnapshotSent:      snapshot("sent to", countSent),
		SnapshotInstalled: snapshot("installed", countInstalled),
		DiskStalled: func(e replkv.StallEvent) {
			r.count(countStalls)
			r.log.add(who, "disk stalled for %v, over: %v", e.For, e.Over)
		},
		Stopped: func(err error) { r.log.add(who, "stopped: %v", err) },
	}
}

// memberLog keeps what a member warns of, and its elections.
type memberLog struct {
	log  *timeline
	who  string
	with string
}

func (l memberLog) Enabled(context.Context, slog.Level) bool { return true }

func (l memberLog) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && !strings.HasPrefix(r.Message, "raft: entering ") {
		return nil
	}
	var b strings.Builder
	b.WriteString(l.with)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	l.log.add(l.who, "%v: %s%s", r.Level, r.Message, &b)
	return nil
}

func (l memberLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.with += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return l
}

func (l memberLog) WithGroup(string) slog.Handler { return l }
