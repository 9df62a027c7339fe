package store

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// memberLog applies entries one by one to a store of a few members.
type memberLog struct {
	t  *testing.T
	s  *Store
	at uint64
}

func (l *memberLog) configure(ids ...string) {
	l.t.Helper()
	l.at++
	e := Entry{Index: l.at, Term: 1, Kind: Configuration, Data: []byte("c")}
	for _, id := range ids {
		e.Refs = append(e.Refs, Ref{ID: id, Voter: true})
	}
	if _, err := l.s.Apply([]Entry{e}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *memberLog) op(want command.OpStatus, op *command.Op) {
	l.t.Helper()
	l.at++
	res, err := l.s.Apply([]Entry{encodeEntry(l.at, encodeBatch(command.NoSession, 0, 0, op))})
	if err != nil {
		l.t.Fatal(err)
	}
	if got := res[0].Batches[0].Ops[0].Status; got != want {
		l.t.Fatalf("entry %d: %v of %s: status %d, want %d", l.at, op.Kind, op.Member, got, want)
	}
}

func (l *memberLog) open(want command.OpStatus, id string, incarnation byte, since uint64, session byte, ordinal uint64, starts ...command.Start) {
	l.t.Helper()
	l.op(want, &command.Op{Kind: command.OpenSession, Member: []byte(id), Session: command.SessionID{session},
		Incarnation: [16]byte{incarnation}, Since: since, Ordinal: ordinal, Starts: starts})
}

func (l *memberLog) judge(want error, id string, incarnation byte, since uint64, starts ...command.Start) {
	l.t.Helper()
	if err := l.s.Judge(id, Claim{[16]byte{incarnation}, since, starts}); !errors.Is(err, want) {
		l.t.Fatalf("incarnation %d of %d at %v of %s: %v, want %v", incarnation, since, starts, id, err, want)
	}
}

func start(n, boot uint64) command.Start { return command.Start{Number: n, Boot: boot} }

// TestMemberIdentity walks through all that may come under a member's id.
func TestMemberIdentity(t *testing.T) {
	fs := vfs.NewCrashableMem()
	l := &memberLog{t: t, s: openMem(t, fs)}
	l.judge(nil, "a", 1, 1, start(1, 10)) // there is no configuration yet

	l.configure("a", "b")
	l.judge(nil, "a", 1, 1, start(1, 10)) // nothing is known of it yet
	l.open(command.OK, "a", 1, 1, 1, 1, start(1, 10))
	l.open(command.OK, "a", 1, 1, 1, 1, start(1, 10))    // a retry
	l.open(command.OK, "a", 1, 1, 2, 2, start(1, 10))    // its next session
	l.open(command.Stale, "a", 1, 1, 1, 1, start(1, 10)) // a late copy of the first
	l.judge(nil, "a", 1, 1, start(1, 10))
	l.judge(kv.ErrStaleIdentity, "a", 2, 1, start(1, 10)) // a wiped directory

	// Restarted, several times before it could make itself known.
	l.judge(nil, "a", 1, 1, start(1, 10), start(2, 20))
	l.open(command.OK, "a", 1, 1, 3, 1, start(1, 10), start(2, 20), start(3, 30))
	l.open(command.OtherIdentity, "a", 1, 1, 1, 1, start(1, 10)) // a late copy
	// A copy of the directory, opened meanwhile, and one restored from before
	// start 3, opened often.
	l.judge(kv.ErrStaleIdentity, "a", 1, 1, start(1, 10), start(2, 20), start(3, 31))
	l.judge(kv.ErrStaleIdentity, "a", 1, 1, start(2, 20), start(4, 41), start(5, 51))
	l.open(command.OtherIdentity, "a", 1, 1, 4, 1, start(2, 20), start(4, 41), start(5, 51))
	// Whom this state does not know yet it does not refuse: a later start, and who
	// joined anew by a configuration that it has not seen.
	l.judge(nil, "a", 1, 1, start(9, 90), start(10, 100))
	l.judge(nil, "a", 7, 1000, start(1, 70))

	// Removed: for ever.
	l.configure("b")
	removed := func() {
		t.Helper()
		l.judge(kv.ErrRemoved, "a", 1, 1, start(3, 30), start(4, 40))
		l.open(command.RemovedMember, "a", 1, 1, 4, 1, start(3, 30), start(4, 40))
	}
	removed()
	l.configure("a", "b")
	removed()
	again := l.at
	l.judge(nil, "a", 5, again, start(1, 50))
	l.configure("b")
	l.judge(kv.ErrRemoved, "a", 5, again, start(1, 50))

	// A new directory joins under the id.
	l.op(command.OK, &command.Op{Kind: command.Admit, Member: []byte("a"), Incarnation: [16]byte{7}, Promote: true, Fresh: true})
	l.configure("b") // of something else: a is not in yet, and stays admitted
	l.op(command.OK, &command.Op{Kind: command.Admit, Member: []byte("a"), Incarnation: [16]byte{8}, Promote: true, Fresh: true})
	if m, _ := l.s.Member("a"); !m.Promote || m.Added != 0 || m.Incarnation != [16]byte{8} {
		t.Fatalf("%+v", m)
	}
	l.configure("a", "b")
	added := l.at
	l.op(command.OtherIdentity, &command.Op{Kind: command.Admit, Member: []byte("a"), Incarnation: [16]byte{9}})
	l.open(command.OtherIdentity, "a", 9, added, 5, 1, start(1, 90))
	l.open(command.OK, "a", 8, added, 6, 1, start(1, 80))
	removed()
	l.judge(kv.ErrRemoved, "a", 5, again, start(1, 50)) // the one between

	// All of it survives a restart.
	before, _ := l.s.Member("a")
	if before.Promote || before.Added != added || before.Start != start(1, 80) {
		t.Fatalf("%+v", before)
	}
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}
	l.s = openMem(t, fs)
	if after, ok := l.s.Member("a"); !ok || after != before {
		t.Fatalf("%+v, before the restart %+v", after, before)
	}
	removed()

	// b never made itself known, and is removed.
	l.configure("a")
	l.judge(kv.ErrRemoved, "b", 3, 1, start(1, 1))
	l.open(command.RemovedMember, "b", 3, 1, 9, 1, start(1, 1))
	if _, ok := l.s.Member("b"); ok {
		t.Error("something is kept of who was removed")
	}
}

// TestRemoveEndsSession: what a removed member has sent is refused when it
// arrives.
func TestRemoveEndsSession(t *testing.T) {
	l := &memberLog{t: t, s: openMem(t, vfs.NewCrashableMem())}
	l.configure("a", "b")
	l.open(command.OK, "a", 1, 1, 1, 1, start(1, 1))
	l.configure("b")
	l.at++
	res, err := l.s.Apply([]Entry{encodeEntry(l.at, encodeBatch(command.SessionID{1}, 1, 0, setK))})
	if err != nil || res[0].Batches[0].Status != command.UnknownSession {
		t.Fatalf("%+v, %v", res, err)
	}
}
