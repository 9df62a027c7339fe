package replkv

import (
	"errors"
	"io"
	"runtime"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
)

// fsm is raft's view of the state machine. raft calls it from one goroutine.
//
// It never returns an error: raft would panic, or go on without the entry. A
// failure goes to the guard, which stops the member, and ends raft's goroutine.
type fsm struct{ db *DB }

var _ raft.BatchingFSM = (*fsm)(nil)

// Apply is not called: raft prefers ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries. The answer to a command is a
// store.Result.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]store.Entry, len(logs))
	bytes := 0
	for i, l := range logs {
		entries[i] = store.Entry{Index: l.Index, Term: l.Term, Data: l.Data}
		if l.Type == raft.LogConfiguration {
			entries[i].Kind = store.Configuration
		}
		bytes += len(l.Data)
	}
	results, err := f.db.state.Apply(entries)
	if err != nil {
		f.fail(err)
	}
	out := make([]any, len(results))
	for i := range results {
		out[i] = results[i]
	}
	f.db.published()
	f.db.snaps.applied(bytes)
	return out
}

func (f *fsm) fail(err error) {
	f.db.guard.Fail(err)
	runtime.Goexit()
}

// Snapshot captures nothing: the state is its own snapshot, and Persist only
// makes it durable.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return &fsmSnapshot{f.db}, nil }

// Restore installs the snapshot that the sink has received. All that could
// fail without harm has been done by then.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	in := f.db.snaps.takeIncoming()
	if in == nil {
		return errNoIncoming
	}
	if err := f.db.failpoint("snapshot-install"); err != nil {
		return errors.Join(err, in.Discard())
	}
	if err := f.db.state.Install(in); err != nil {
		// The live state is as it was, unless the store says that it failed.
		return err
	}
	f.db.snaps.installed.Add(1)
	f.db.log.Info("snapshot installed", "index", f.db.state.State().Index)
	f.db.published()
	return nil
}

// published tells waiters what has just been applied.
func (db *DB) published() {
	st := db.state.State()
	db.applied.advance(st.Index)
	db.revisions.advance(uint64(st.Revision))
}
