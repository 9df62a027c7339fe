package replkv

import "time"

// EventListener is told what operators should know. Its functions, each of which
// may be nil, are called one after the other, in order, on a goroutine of the
// store; they may call the store, but Close. One that is slow delays the others;
// if hundreds of events wait, the newest are dropped, and the log says so.
type EventListener struct {
	// LeaderChanged: this member follows another leader, or leads. LeaderID ""
	// means that it knows none.
	LeaderChanged func(Election)
	// MembershipChanged: a new table of members is committed, and applied here.
	MembershipChanged func(Membership)
	// SnapshotTaken: the state is durable and the log before it truncated.
	SnapshotTaken func(SnapshotEvent)
	// SnapshotSent: a follower was too far behind for the log, and was sent the
	// state. With Err it failed, and will be tried again.
	SnapshotSent func(SnapshotEvent)
	// SnapshotInstalled: this member was too far behind, and has got the state.
	SnapshotInstalled func(SnapshotEvent)
	// DiskStalled: a write to the log takes longer than ElectionTimeout, or one
	// that did is over. One that takes longer than the write deadline stops the
	// store.
	DiskStalled func(StallEvent)
	// QuotaExceeded: this member refuses what makes the state grow, or does so no
	// more. Members learn of it within seconds of each other.
	QuotaExceeded func(QuotaEvent)
	// Stopped: the store has stopped; nil after Close.
	Stopped func(error)
}

// SnapshotEvent is a snapshot taken, sent or installed.
type SnapshotEvent struct {
	Index    uint64 // of the newest entry in it
	Bytes    int64  // sent or received; 0 for one taken, which copies nothing
	Duration time.Duration
	Peer     string // to whom it was sent
	Err      error
}

// StallEvent is a write that takes long.
type StallEvent struct {
	For  time.Duration // so far
	Over bool
}

// QuotaEvent is the state getting beyond Config.QuotaBytes, or below it again.
type QuotaEvent struct {
	Exceeded   bool
	StateBytes int64 // of this member's state; 0 if it has no quota itself, and was told by the leader
	QuotaBytes int64 // of this member's Config
}

// events calls the listener.
type events struct {
	db    *DB
	queue chan func()
}

// maxEvents wait at most.
const maxEvents = 512

func newEvents(db *DB) *events { return &events{db: db, queue: make(chan func(), maxEvents)} }

func (e *events) add(call func()) {
	select {
	case e.queue <- call:
	default:
		e.db.log.Warn("an event was dropped: the listener is slow")
	}
}

func (e *events) run() {
	for {
		select {
		case call := <-e.queue:
			call()
		case <-e.db.ctx.Done():
			e.last()
			return
		}
	}
}

// last tells what waits, and that the store has stopped.
func (e *events) last() {
	for {
		select {
		case call := <-e.queue:
			call()
			continue
		default:
		}
		break
	}
	if f := e.db.cfg.Events.Stopped; f != nil {
		f(e.db.cause())
	}
}

func (e *events) leader(x Election) {
	if f := e.db.cfg.Events.LeaderChanged; f != nil {
		e.add(func() { f(x) })
	}
}

func (e *events) membership(x Membership) {
	if f := e.db.cfg.Events.MembershipChanged; f != nil {
		e.add(func() { f(x) })
	}
}

func (e *events) snapshot(f func(SnapshotEvent), x SnapshotEvent) {
	if f != nil {
		e.add(func() { f(x) })
	}
}

func (e *events) stall(x StallEvent) {
	if f := e.db.cfg.Events.DiskStalled; f != nil {
		e.add(func() { f(x) })
	}
}

func (e *events) quota(x QuotaEvent) {
	if f := e.db.cfg.Events.QuotaExceeded; f != nil {
		e.add(func() { f(x) })
	}
}
