package replkv

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store"
	"github.com/replkv/replkv/store/raftlog"
)

// TestCovers: a snapshot is refused as covered if all that is in it is applied, or lies in
// the log without a gap. Whoever sent it counts this member as having it all then, so
// another leader's entry at its index is none of it.
func TestCovers(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const applied = 5
	for i := range uint64(applied) {
		if _, err := st.Apply([]store.Entry{{Index: i + 1, Term: 1, Kind: store.Configuration}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		from, to    uint64 // what the log holds, all of term 2; 0: nothing
		index, term uint64 // of the snapshot
		want        bool
	}{
		"applied":                       {from: 1, to: 9, index: 5, term: 1, want: true},
		"applied, and truncated":        {index: 4, term: 1, want: true},
		"in the log":                    {from: 4, to: 9, index: 8, term: 2, want: true},
		"in a log right behind":         {from: 6, to: 9, index: 8, term: 2, want: true},
		"the log's last":                {from: 1, to: 8, index: 8, term: 2, want: true},
		"in the log, of a newer leader": {from: 4, to: 9, index: 8, term: 3},
		"in the log, of an older one":   {from: 4, to: 9, index: 8, term: 1},
		"behind a gap":                  {from: 7, to: 9, index: 8, term: 2},
		"behind the log":                {from: 4, to: 7, index: 8, term: 2},
		"in no log":                     {index: 8, term: 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := raftlog.Open(t.TempDir(), raftlog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			g := raftlog.NewGuard(l, raftlog.GuardOptions{})
			defer g.Close()
			for i := c.from; i > 0 && i <= c.to; i++ {
				if err := g.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
					t.Fatal(err)
				}
			}
			s := &snapshots{db: &DB{state: st, guard: g}}
			if got := s.covers(c.index, c.term); got != c.want {
				t.Errorf("covers(%d, %d) = %v", c.index, c.term, got)
			}
		})
	}
}
