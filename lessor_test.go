package replkv

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replkv/replkv/internal/command"
)

// TestPeersDecideNothing: a member takes no leader's decisions from others, and no
// Grant that could be done twice.
func TestPeersDecideNothing(t *testing.T) {
	session := command.SessionID{1}
	for _, x := range []struct {
		session command.SessionID
		op      command.Op
		fine    bool
	}{
		{session, command.Op{Kind: command.Grant, Lease: 1, TTL: 1000}, true},
		{session, command.Op{Kind: command.Revoke, Lease: 1}, true},
		{session, command.Op{Kind: command.Revoke, Lease: 1, Term: 3, Generation: 3}, false},
		{session, command.Op{Kind: command.Renew, Lease: 1, Term: 3, Generation: 3}, false},
		{command.NoSession, command.Op{Kind: command.Grant, Lease: 1, TTL: 1000}, false},
		{command.NoSession, command.Op{Kind: command.Revoke, Lease: 1}, false},
		{command.NoSession, command.Op{Kind: command.Revoke, Lease: 1, Term: 3, Generation: 3}, false},
		{command.NoSession, command.Op{Kind: command.Renew, Lease: 1, Term: 3, Generation: 3}, false},
	} {
		raw := command.AppendOp(command.AppendBatchHeader(nil, x.session, 1, 0, 1), &x.op)
		if err := checkBatch(raw, "b", 1<<20); (err == nil) != x.fine || !x.fine && !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%v of term %d, in a session %v: %v", x.op.Kind, x.op.Term, x.session == session, err)
		}
	}
}

// TestCloseEndsKeepAlive: who keeps a lease alive hears that the store was closed.
func TestCloseEndsKeepAlive(t *testing.T) {
	db, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	id, err := db.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- db.KeepAlive(context.Background(), id) }()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("KeepAlive: %v", err)
	}
}

// TestLeaseCallsAreBounded: who comes too many is told so at once, and who leaves
// makes room.
func TestLeaseCallsAreBounded(t *testing.T) {
	var c leaseCalls
	c.init(&DB{}, true)
	for range maxLeaseCalls {
		if err := c.add(new(leaseCall)); err != nil {
			t.Fatal(err)
		}
	}
	first := c.queue[0]
	if _, err := c.do(t.Context(), t.Context(), 1); !errors.Is(err, ErrOverloaded) {
		t.Errorf("one too many: %v", err)
	}
	c.leave(first)
	if err := c.add(first); err != nil {
		t.Errorf("one has left: %v", err)
	}
	if calls, _ := c.take(); len(calls) != maxLeaseIDs {
		t.Errorf("a request of %d leases", len(calls))
	}
}
