package replkv

import (
	"fmt"
	"sync"
	"testing"

	"github.com/replkv/replkv/internal/command"
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
		raw := unsessioned(&command.Op{Kind: command.OpenSession, Session: command.SessionID{byte(round + 1)}, Member: []byte(db.cfg.ID)})
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
