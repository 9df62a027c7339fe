package transport

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ahead sends a leader's entries to one follower while the leader still writes
// them to its own log, instead of after that (Ongaro's thesis, section 10.2.1;
// etcd does the same): a write then waits for one sync, not for two in a row.
// raft does not know. When it asks for the entries to be sent, they are under
// way or acknowledged already, and it gets that answer.
//
// It is safe because raft still counts the leader's own copy only once it is
// written, and the follower's only as acknowledged in this term; an entry of
// this term at this index is the same whether its leader has written it or not,
// since no other leader of the term exists, and a leader that loses it leads
// this term no more.
//
// Not hashicorp/raft's pipeline: one append is under way to a follower at a
// time.
type ahead struct {
	fresh time.Duration // answers and raft's interest older than this do not count

	mu      sync.Mutex // never held across an RPC
	changed sync.Cond  // on mu

	term uint64 // of the leadership that all below is about; 0: none
	// index is the newest entry, logTerm its term, that the follower is known to
	// have in common with the leader, by an answer that came at answered.
	// Invariant: each entry of the leader's up to index is in the follower's log.
	index, logTerm uint64
	answered       time.Time
	// asked is the newest entry that raft has asked for. What lies between asked
	// and index was sent ahead and waits for raft to ask.
	asked   uint64
	askedAt time.Time
	header  raft.RPCHeader // of raft's newest request
	leader  []byte         // likewise

	busy bool // an append is under way
	// epoch rises when what the follower acknowledged before says nothing any
	// more; began is the epoch in which the append under way began.
	epoch, began uint64
	first        int // requests of raft's that no queued entry answers, and that wait for busy
	// queue has the entries that the leader writes now. Invariant: they are
	// contiguous, and no more than fit a message.
	queue   []*raft.Log
	bytes   int
	commit  uint64 // the leader's commit index when it queued them
	running bool   // a goroutine sends the queue
}

func newAhead(fresh time.Duration) *ahead {
	a := &ahead{fresh: fresh}
	a.changed.L = &a.mu
	return a
}

// SendAhead tells that this member, leader of the term in which the entries
// are, begins to write them to its log, and that it knew commit to be committed
// before. They are sent to followers that have all before them. It does not
// block and keeps the entries; nobody may change them any more.
func (t *Transport) SendAhead(commit uint64, entries []*raft.Log) {
	size := 0
	for _, l := range entries {
		size += logBytes(l)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.mu.peers {
		if p.ahead.add(commit, entries, size) {
			go p.sendAhead()
		}
	}
}

// add queues entries; start asks for a goroutine that sends them.
func (a *ahead) add(commit uint64, entries []*raft.Log, size int) (start bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, last := entries[0], entries[len(entries)-1]
	if a.term != first.Term || a.term != last.Term || a.index == 0 || time.Since(a.askedAt) > a.fresh {
		return false
	}
	if len(a.queue) > 0 && a.queue[len(a.queue)-1].Index+1 != first.Index {
		a.drop()
	}
	if a.bytes+size+aheadBase > MaxMessageBytes {
		a.drop() // the follower is slow; raft sends them
		return false
	}
	a.queue, a.bytes, a.commit = append(a.queue, entries...), a.bytes+size, commit
	start = !a.running
	a.running = true
	return start
}

// aheadBase is more than a request without entries takes.
const aheadBase = 4 << 10

func (a *ahead) drop() { a.queue, a.bytes = nil, 0 }

// next takes the queue as a request once no append is under way; nil if it does
// not follow what the follower has, or is empty.
func (a *ahead) next() *raft.AppendEntriesRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.busy || a.first > 0 {
		a.changed.Wait()
	}
	a.queue = a.queue[a.beyond(a.queue):]
	if len(a.queue) == 0 || a.queue[0].Term != a.term || a.queue[0].Index != a.index+1 {
		a.drop()
		a.running = false
		a.changed.Broadcast()
		return nil
	}
	req := &raft.AppendEntriesRequest{RPCHeader: a.header, Term: a.term, PrevLogEntry: a.index, PrevLogTerm: a.logTerm,
		Entries: a.queue, LeaderCommitIndex: a.commit}
	//lint:ignore SA1019 raft still sends the deprecated field
	req.Leader = a.leader
	a.drop()
	a.busy, a.began = true, a.epoch
	return req
}

// beyond returns how many of the entries the follower has.
func (a *ahead) beyond(entries []*raft.Log) int {
	n, _ := slices.BinarySearchFunc(entries, a.index+1, func(l *raft.Log, index uint64) int {
		switch {
		case l.Index < index:
			return -1
		case l.Index > index:
			return 1
		}
		return 0
	})
	return n
}

// sendAhead sends what is queued until nothing is.
func (p *peer) sendAhead() {
	for {
		req := p.ahead.next()
		if req == nil {
			return
		}
		resp, err := p.appendOne(req)
		p.ahead.ended(req, resp, err)
	}
}

// ended ends what next or begin began, and takes note of the answer.
func (a *ahead) ended(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = false
	a.noteLocked(req, resp, err)
	a.changed.Broadcast()
}

func (a *ahead) noteLocked(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, err error) {
	switch {
	case req.Term != a.term || a.began != a.epoch:
	case err != nil || !resp.Success || resp.Term != req.Term:
		a.index = 0 // raft finds out what the follower has
		a.drop()
	default:
		index, term := lastOf(req)
		if index >= a.index {
			a.index, a.logTerm = index, term
		}
		a.answered = time.Now()
	}
}

// lastOf returns the newest entry, and its term, that a follower has if it
// accepts the request.
func lastOf(req *raft.AppendEntriesRequest) (index, term uint64) {
	if n := len(req.Entries); n > 0 {
		return req.Entries[n-1].Index, req.Entries[n-1].Term
	}
	return req.PrevLogEntry, req.PrevLogTerm
}

// begin is called with a request of raft's. It waits for what is under way, and
// returns what is left of the request to be sent, upon which ended must be
// called; nil if all of it is acknowledged. With mine false the request is of a
// leadership that is over, and is none of ahead's business.
func (a *ahead) begin(req *raft.AppendEntriesRequest) (rest *raft.AppendEntriesRequest, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Term < a.term {
		return req, false
	}
	if req.Term > a.term {
		a.term, a.index, a.asked = req.Term, 0, 0
		a.drop()
	}
	//lint:ignore SA1019 raft still sends the deprecated field
	a.header, a.leader, a.askedAt = req.RPCHeader, req.Leader, time.Now()
	rest = req
	for {
		rest = a.unanswered(rest)
		if req.Term != a.term {
			return rest, false
		}
		if rest == nil {
			break
		}
		// What is under way, or queued, may be what raft asks for.
		if !a.busy && (len(a.queue) == 0 || a.queue[0].Index != a.index+1 || len(rest.Entries) == 0) {
			break
		}
		if len(rest.Entries) > 0 {
			a.changed.Wait()
			continue
		}
		a.first++
		a.changed.Wait()
		a.first--
		a.changed.Broadcast()
	}
	last, _ := lastOf(req)
	a.asked = max(a.asked, last)
	if rest != nil {
		a.busy, a.began = true, a.epoch
	}
	return rest, true
}

// forget is called when another process, or another log, may answer for the
// follower from now on: at another address, over a new stream, after a snapshot,
// for which raft empties the follower's log. What was acknowledged before, or is
// by what is under way, says nothing of that one.
func (a *ahead) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	a.index = 0
	a.drop()
	a.changed.Broadcast()
}

// unanswered returns req without the entries that were sent ahead and
// acknowledged of late; nil if no entry is left. What raft has asked for before
// is sent as often as it asks.
func (a *ahead) unanswered(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	n := len(req.Entries)
	if n == 0 || a.term != req.Term || req.Entries[0].Index > a.index || req.Entries[n-1].Index <= a.asked || time.Since(a.answered) > a.fresh {
		return req
	}
	n = a.beyond(req.Entries)
	if n == len(req.Entries) {
		return nil
	}
	rest := *req
	rest.PrevLogEntry, rest.PrevLogTerm, rest.Entries = req.Entries[n-1].Index, req.Entries[n-1].Term, req.Entries[n:]
	return &rest
}
