package replkv

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestConfirmationIsOfItsRound: an answer counts for the rounds that had begun when it
// was asked for, not for those that have begun since; and in its term only.
func TestConfirmationIsOfItsRound(t *testing.T) {
	var c confirmer
	c.init(&DB{cfg: Config{ID: "a"}})
	voters := []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	b, other := &confirmPeer{id: "b"}, &confirmPeer{id: "c"}
	c.peers["b"], c.peers["c"] = b, other
	want := func(yes int, stale bool) {
		t.Helper()
		if _, got, old := c.count(voters, c.round, 7); got != yes || old != stale {
			t.Errorf("in round %d: %d yes, stale %v; want %d, %v", c.round, got, old, yes, stale)
		}
	}
	c.round = 4
	want(1, false) // itself
	c.round = 5    // begins while b is asked for round 4
	c.answer(b, 4, 7, true)
	want(1, false)
	c.answer(b, 5, 7, true)
	want(2, false)
	c.answer(b, 4, 7, true) // late
	want(2, false)
	c.answer(other, 5, 7, false) // it is no voter any more
	want(2, false)
	c.round++
	want(1, false)
	c.answer(b, 6, 8, true)
	want(1, true)
}

// TestWhoIsNoVoterIsNotAsked: nothing stays of a member that has left.
func TestWhoIsNoVoterIsNotAsked(t *testing.T) {
	db := openLonely(t, t.TempDir(), nil)
	c := &db.reads.conf
	asking := func() int {
		buf := make([]byte, 1<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), "(*confirmer).ask(")
	}
	voters := []raft.Server{{ID: "a"}, {ID: "b", Address: "127.0.0.1:1"}, {ID: "c", Address: "127.0.0.1:2"}}
	for _, n := range []int{3, 2, 1, 2} {
		c.begin(voters[:n])
		for end := time.Now().Add(10 * time.Second); asking() != n-1; {
			if time.Now().After(end) {
				t.Fatalf("%d are asked, of %d voters", asking(), n)
			}
			runtime.Gosched()
		}
		if len(c.peers) != n-1 {
			t.Errorf("%d are known, of %d voters", len(c.peers), n)
		}
	}
}
