package replkv

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/transport"
)

// TestSessionLost: when the state machine has forgotten a member's session, the
// member opens another and no write is lost or doubled.
func TestSessionLost(t *testing.T) {
	db := openSingle(t, t.TempDir())
	ctx := t.Context()
	for round := range 5 {
		var wg sync.WaitGroup
		for w := range 20 {
			wg.Go(func() {
				for i := range 10 {
					if _, err := db.Set(ctx, fmt.Sprintf("k%d-%d", w, i), []byte("v")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		// Another session of the same member ends the one in use.
		op, err := db.writes.opening(command.SessionID{byte(round + 1)})
		if err != nil {
			t.Fatal(err)
		}
		raw := unsessioned(op)
		if _, _, err := db.commit(ctx, raw); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	}
	for item, err := range db.Scan(ctx, All()) {
		if err != nil || item.Version != 5 {
			t.Fatalf("%+v, %v; want version 5", item, err)
		}
	}
}

// TestOutcomeIsNeverUpgraded: a copy that the session refuses says nothing of
// an earlier copy.
func TestOutcomeIsNeverUpgraded(t *testing.T) {
	db := openSingle(t, t.TempDir())
	for _, c := range []struct {
		status      command.BatchStatus
		maybe, want bool
	}{
		{command.UnknownSession, false, false},
		{command.UnknownSession, true, true},
		{command.OutsideWindow, true, true},
		{command.BelowLowWater, false, true},
	} {
		_, maybe, err := db.sessionAnswer(&command.BatchResult{Status: c.status}, c.maybe)
		if err == nil || maybe != c.want {
			t.Errorf("%+v: maybe %v, %v", c, maybe, err)
		}
	}
}

// TestSlowBatchHoldsWindow: a batch that is not answered for long stops the
// others before the state machine would refuse them.
func TestSlowBatchHoldsWindow(t *testing.T) {
	db := openSingle(t, t.TempDir())
	if _, err := db.Set(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	w := db.writes
	w.mu.Lock()
	w.seq++
	slow := &openBatch{session: w.session, seq: w.seq}
	w.open[slow.seq] = slow
	w.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		for range 100 {
			if _, err := db.Set(t.Context(), "k", nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	held := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.seq == slow.seq+command.SessionWindow-1 && len(w.queue) == 1
	}
	for end := time.Now().Add(20 * time.Second); !held(); {
		select {
		case err := <-done:
			t.Fatalf("the writes ended: %v", err)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("the window was never reached")
		}
	}
	w.mu.Lock()
	delete(w.open, slow.seq)
	w.signal()
	w.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestForwardRefuses: what a peer may not put into the log is refused: it would
// halt every member, or make them differ.
func TestForwardRefuses(t *testing.T) {
	db := openSingle(t, t.TempDir())
	if err := db.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := func(s command.SessionID, op *command.Op) []byte {
		return command.AppendOp(command.AppendBatchHeader(nil, s, 1, 0, 1), op)
	}
	session := command.SessionID{1}
	set := &command.Op{Kind: command.Set, Key: []byte("k")}
	for name, raw := range map[string][]byte{
		"nothing":                    nil,
		"garbage":                    []byte("garbage in a batch of bytes"),
		"a write without session":    one(command.NoSession, set),
		"a setting":                  one(command.NoSession, &command.Op{Kind: command.Setting, ID: 99, Number: 1}),
		"a session inside a session": one(session, &command.Op{Kind: command.OpenSession, Session: session}),
		"a session of another": one(command.NoSession, &command.Op{Kind: command.OpenSession, Session: session, Member: []byte(db.cfg.ID), Ordinal: 1,
			Incarnation: db.id.incarnation, Since: 1, Starts: []command.Start{{Number: 1 << 40, Boot: 1}}}),
		"cut short": one(session, set)[:20],
		"too long":  make([]byte, 4<<20),
	} {
		if _, _, err := (peerHandler{db}).Forward(t.Context(), transport.Identity{From: "b"}, raw); err == nil || OutcomeOf(err) != OutcomeNotDone {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := db.Set(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
}
