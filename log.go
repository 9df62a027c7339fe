package replkv

import (
	"context"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// raftLog is raft's view of the logger: hclog's interface over slog. raft's
// Info is Debug here: at night an operator wants this library's own lines.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = raftLog{}

// routine are raft's warnings and errors of every day: it repeats them for each
// attempt to reach a member that is down, which peerErrors tells once.
var routine = map[string]bool{
	"failed to appendEntries to":                        true,
	"failed to heartbeat to":                            true,
	"failed to contact":                                 true,
	"failed to make requestVote RPC":                    true,
	"appendEntries rejected, sending older logs":        true,
	"skipping application of old log":                   true,
	"rejecting vote request since we have a leader":     true,
	"rejecting pre-vote request since we have a leader": true,
	"heartbeat timeout reached, starting election":      true,
	"Election timeout reached, restarting election":     true,
}

func (l raftLog) emit(level slog.Level, msg string, args []any) {
	if routine[msg] {
		level = slog.LevelDebug
	}
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "raft: "+msg, args...)
	}
}

func slogLevel(level hclog.Level) slog.Level {
	switch {
	case level >= hclog.Error:
		return slog.LevelError
	case level == hclog.Warn:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (l raftLog) Log(level hclog.Level, msg string, args ...any) {
	l.emit(slogLevel(level), msg, args)
}
func (l raftLog) Trace(string, ...any)           {}
func (l raftLog) Debug(msg string, args ...any)  { l.emit(slog.LevelDebug, msg, args) }
func (l raftLog) Info(msg string, args ...any)   { l.emit(slog.LevelDebug, msg, args) }
func (l raftLog) Warn(msg string, args ...any)   { l.emit(slog.LevelWarn, msg, args) }
func (l raftLog) Error(msg string, args ...any)  { l.emit(slog.LevelError, msg, args) }
func (l raftLog) IsTrace() bool                  { return false }
func (l raftLog) IsDebug() bool                  { return l.log.Enabled(context.Background(), slog.LevelDebug) }
func (l raftLog) IsInfo() bool                   { return l.IsDebug() }
func (l raftLog) IsWarn() bool                   { return l.log.Enabled(context.Background(), slog.LevelWarn) }
func (l raftLog) IsError() bool                  { return l.log.Enabled(context.Background(), slog.LevelError) }
func (l raftLog) ImpliedArgs() []any             { return l.args }
func (l raftLog) Name() string                   { return l.name }
func (l raftLog) Named(name string) hclog.Logger { l.name = name; return l }
func (l raftLog) ResetNamed(name string) hclog.Logger {
	l.name = name
	return l
}
func (l raftLog) With(args ...any) hclog.Logger {
	return raftLog{log: l.log.With(args...), name: l.name, args: append(slices.Clone(l.args), args...)}
}
func (l raftLog) SetLevel(hclog.Level)  {}
func (l raftLog) GetLevel() hclog.Level { return hclog.Debug }
func (l raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
func (l raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
