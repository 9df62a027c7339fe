package replkv

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/raftlog"
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
	bytes, configured := 0, false
	for i, l := range logs {
		e, err := entryOf(l)
		if err != nil {
			f.fail(err)
		}
		entries[i] = e
		configured = configured || e.Kind == store.Configuration
		bytes += len(l.Data)
	}
	watch := watchApply(f.db.cfg.WriteDeadline, f.db.state.Progress, func() {
		f.db.guard.Fail(fmt.Errorf("%w: applying %d entries took longer than %v", raftlog.ErrStalled, len(entries), f.db.cfg.WriteDeadline))
	})
	defer watch.stop()
	err := f.db.failpoint("apply")
	var results []store.Result
	if err == nil {
		results, err = f.db.state.Apply(entries)
	}
	if err != nil {
		f.fail(err)
	}
	out := make([]any, len(results))
	for i := range results {
		out[i] = results[i]
	}
	f.db.published()
	f.db.counts.applied.Add(uint64(len(logs)))
	f.db.counts.appliedBytes.Add(uint64(bytes))
	f.db.snaps.applied(bytes)
	if configured {
		f.db.configured()
	}
	return out
}

// entryOf is a log entry as the state machine takes it.
func entryOf(l *raft.Log) (store.Entry, error) {
	e := store.Entry{Index: l.Index, Term: l.Term, Data: l.Data}
	if l.Type != raft.LogConfiguration {
		return e, nil
	}
	c, err := decodeConfiguration(l.Data)
	e.Kind, e.Refs = store.Configuration, refs(c)
	return e, err
}

// refs is what the state machine needs of a configuration.
func refs(c raft.Configuration) (out []store.Ref) {
	for _, s := range c.Servers {
		out = append(out, store.Ref{ID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
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
	in, bytes := f.db.snaps.takeIncoming()
	if in == nil {
		return errNoIncoming
	}
	if err := f.db.failpoint("snapshot-install"); err != nil {
		return errors.Join(err, in.Discard())
	}
	began := time.Now()
	if err := f.db.state.Install(in); err != nil {
		// The live state is as it was, unless the store says that it failed.
		return err
	}
	f.db.counts.snapshotsInstalled.Add(1)
	st := f.db.state.State()
	f.db.wlog.rebase(st)
	index := st.Index
	f.db.log.Info("snapshot installed", "index", index)
	f.db.events.snapshot(f.db.cfg.Events.SnapshotInstalled, SnapshotEvent{Index: index, Bytes: bytes, Duration: time.Since(began)})
	f.db.configured()
	f.db.published()
	return nil
}

// configured takes up a new table of members.
func (db *DB) configured() {
	table, err := db.membership()
	if err != nil {
		return // raft has decoded the same bytes
	}
	old := db.table.Swap(&table)
	db.peers.keep(table.Members, func(id string) bool {
		if old == nil {
			return false
		}
		before, _ := old.Find(id)
		now, _ := table.Find(id)
		return before.Addr != now.Addr
	})
	db.log.Info("members", "index", table.Index, "table", table.Members)
	db.events.membership(table)
}

// published tells waiters what has just been applied.
func (db *DB) published() {
	st := db.state.State()
	db.proof.applied()
	db.tendLeases()
	db.applied.advance(st.Index)
	db.revisions.advance(uint64(st.Revision))
	db.watches.Published()
}
