package replkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/replkv/replkv/internal/wireerr"
)

// neighbours is what this member has seen of the others.
type neighbours struct {
	log *slog.Logger

	mu sync.Mutex // protects the fields below
	by map[string]*neighbour
}

type neighbour struct {
	addr    string // where it said it is; "" if it has not
	err     error  // of the newest RPC to it
	contact time.Time
	// matched is the newest entry that it is known to have, and caughtUp since
	// when it has not lacked more than replication has under way; zero if it does.
	matched  uint64
	caughtUp time.Time
}

// underWay is how many entries a follower may lack and still be up to date:
// what the leader has in flight, and then some.
const underWay = 64

func (n *neighbours) of(id string) *neighbour {
	x := n.by[id]
	if x == nil {
		if n.by == nil {
			n.by = make(map[string]*neighbour)
		}
		x = new(neighbour)
		n.by[id] = x
	}
	return x
}

// note keeps the outcome of an RPC to a member, so that ErrNoLeader can say who
// was not reached and why, and tells the log when that changes.
func (n *neighbours) note(id string, err error) {
	if errors.Is(err, context.Canceled) {
		return // our own doing
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.of(id)
	before := x.err
	x.err = err
	if err == nil {
		x.contact = time.Now()
	} else {
		x.caughtUp = time.Time{}
	}
	switch {
	case err != nil && before == nil:
		n.log.Warn("a member is not reached", "id", id, "error", err)
	case err == nil && before != nil:
		n.log.Info("a member is reached again", "id", id)
	}
}

// forget drops what is known of a name that was only an address.
func (n *neighbours) forget(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.by, addr)
}

// progress notes that a follower has the log up to matched, of which the newest
// entry is last.
func (n *neighbours) progress(id string, matched, last uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.of(id)
	x.matched = max(x.matched, matched)
	switch {
	case matched+underWay < last:
		x.caughtUp = time.Time{}
	case x.caughtUp.IsZero():
		x.caughtUp = time.Now()
	}
}

// newReign forgets what followers had: matched counts for one leadership.
func (n *neighbours) newReign() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.by {
		x.matched, x.caughtUp = 0, time.Time{}
	}
}

// get returns what is known of a member.
func (n *neighbours) get(id string) neighbour {
	n.mu.Lock()
	defer n.mu.Unlock()
	if x := n.by[id]; x != nil {
		return *x
	}
	return neighbour{}
}

// foundAt notes where a member says it is, and returns whether that is new.
func (n *neighbours) foundAt(id, addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.of(id)
	if x.addr == addr {
		return false
	}
	x.addr = addr
	return true
}

// keep forgets all but those; known addresses of members whose configured
// address has changed go, too: the configuration is newer.
func (n *neighbours) keep(members []Member, moved func(id string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, x := range n.by {
		if !slices.ContainsFunc(members, func(m Member) bool { return m.ID == id }) {
			delete(n.by, id)
		} else if moved(id) {
			x.addr = ""
		}
	}
}

// resolve returns where a member said it is.
func (n *neighbours) resolve(id string) (addr string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if x := n.by[id]; x != nil && x.addr != "" {
		return x.addr, true
	}
	return "", false
}

// notReached returns the members whose last RPC failed, as text, and the first
// error that says what is wrong rather than that nobody answers.
func (n *neighbours) notReached() (text string, cause error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var parts []string
	for id, x := range n.by {
		if x.err == nil {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %v", id, x.err))
		if errors.Is(wireerr.FromStatus(x.err), ErrWrongCluster) {
			cause = ErrWrongCluster
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "; "), cause
}

// noLeader makes the error of a call that found no leader in time.
func (db *DB) noLeader() error {
	text, cause := db.peers.notReached()
	if why := db.proof.reason(); why != "" {
		text = strings.TrimPrefix(text+"; "+why, "; ")
	}
	switch {
	case cause != nil:
		return fmt.Errorf("%w: %w: not reached: %s", ErrNoLeader, cause, text)
	case text != "":
		return fmt.Errorf("%w: not reached: %s", ErrNoLeader, text)
	}
	return ErrNoLeader
}
