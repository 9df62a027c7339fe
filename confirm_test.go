package replkv

import (
	"testing"

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
