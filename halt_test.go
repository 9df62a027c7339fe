package replkv

import (
	"errors"
	"testing"
	"time"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/internal/wireerr"
)

// TestHalt: an entry that this version cannot apply stops the member, with the
// reason, and not the process; nothing of it is skipped.
func TestHalt(t *testing.T) {
	valid := command.AppendEnvelope(nil, command.Envelope{Batches: [][]byte{unsessioned(&command.Op{Kind: command.Epoch, Member: []byte("x")})}})
	for name, c := range map[string]struct {
		entry []byte
		want  error
	}{
		"garbage": {[]byte("garbage in the log"), ErrCorrupt},
		"damaged": {append([]byte{valid[0] ^ 1}, valid[1:]...), ErrCorrupt},
		"newer":   {newerVersion(valid, 0), ErrFormatTooNew},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Set(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
			index := db.Status().AppliedIndex
			db.raft.Apply(c.entry, time.Second)
			select {
			case <-db.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the member goes on")
			}
			if !errors.Is(db.Err(), c.want) {
				t.Errorf("Err: %v, want %v", db.Err(), c.want)
			}
			_, err = db.Set(t.Context(), "k", nil)
			if !errors.Is(err, c.want) || !errors.Is(err, ErrClosed) {
				t.Errorf("Set on the stopped member: %v", err)
			}
			// A remote client goes on to another member, whatever has stopped this one.
			if err := wireerr.FromStatus(wireerr.ToStatus(err)); !errors.Is(err, ErrClosed) {
				t.Errorf("to a remote client: %v", err)
			}
			began := time.Now()
			db.Close()
			if d := time.Since(began); d > 8*time.Second || db.left != "" {
				t.Errorf("Close took %v and left %q", d, db.left)
			}
			if s := db.Status(); s.AppliedIndex != index || s.Role != "stopped" {
				t.Errorf("status %+v, applied was %d", s, index)
			}
		})
	}
}
