package replkv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/transport"
	"github.com/replkv/replkv/transport/peerpb"
)

// errSessionLost says that the state machine does not know our session: it
// was evicted, or another process opened one under our id.
var errSessionLost = errors.New("session lost")

// commit gets a batch committed, through whoever leads, and returns its result
// and the entry's index. It sends the same bytes until an answer comes or ctx
// ends: the session makes that exactly-once (and without a session the
// operations are harmless to repeat). After an error, maybe says whether an
// attempt may have been or may yet be applied.
func (db *DB) commit(ctx context.Context, raw []byte) (res *command.BatchResult, maybe bool, err error) {
	for {
		reign := db.leads.current()
		a := db.attempt(ctx, reign, raw)
		if a.err == nil {
			return db.sessionAnswer(a.result, maybe)
		}
		maybe = maybe || !a.notDone
		if ctx.Err() != nil {
			return nil, maybe, context.Cause(ctx)
		}
		if db.ctx.Err() != nil {
			return nil, maybe, db.stopped()
		}
		if a.notDone && (errors.Is(a.err, ErrInvalidArgument) || errors.Is(a.err, ErrTooLarge) || errors.Is(a.err, ErrOverloaded)) {
			return nil, maybe, a.err
		}
		pause(ctx, reign.Done())
	}
}

// attempt proposes a batch here or at the leader, once.
func (db *DB) attempt(ctx, reign context.Context, raw []byte) batchAnswer {
	id, addr, self := db.leader()
	switch {
	case self:
		return db.entries.submit(ctx, raw)
	case id == "":
		return batchAnswer{err: ErrNoLeader, notDone: true}
	}
	ctx, cancel := during(ctx, reign)
	defer cancel()
	enc, index, err := db.trans.Forward(ctx, id, addr, raw)
	db.reached(id, nonCtx(ctx, err))
	if err != nil {
		return batchAnswer{err: err, notDone: kv.OutcomeOf(err) == OutcomeNotDone}
	}
	res, err := command.DecodeResult(enc)
	return batchAnswer{result: res, index: index, err: err}
}

// sessionAnswer turns a refusal of a batch into an error. Invariant: an outcome
// is never upgraded. A refused copy was not applied, but an earlier copy may
// have been.
func (db *DB) sessionAnswer(res *command.BatchResult, maybe bool) (*command.BatchResult, bool, error) {
	switch res.Status {
	case command.Applied:
		return res, false, nil
	case command.UnknownSession:
		return nil, maybe, errSessionLost
	case command.OutsideWindow:
		return nil, maybe, fmt.Errorf("%w: the batch's number is more than %d above the low-water mark", ErrInvalidArgument, command.SessionWindow)
	case command.BelowLowWater:
		return nil, true, fmt.Errorf("%w: the session has moved on", ErrOutcomeUnknown)
	}
	return nil, maybe, fmt.Errorf("batch refused with status %d", res.Status)
}

// peerHandler serves what members ask of each other. One hop only: a member
// that does not lead says so.
type peerHandler struct{ db *DB }

// Confirm answers with the current term, which raft persists before it grants
// a vote in it.
func (h peerHandler) Confirm(context.Context, uint64) (uint64, bool, error) {
	return h.db.raft.CurrentTerm(), h.db.isVoter(h.db.cfg.ID), nil
}

func (h peerHandler) ReadIndex(ctx context.Context) (index, term uint64, err error) {
	if h.db.raft.State() != raft.Leader {
		return 0, 0, h.notLeader("ReadIndex")
	}
	b, err := h.db.reads.join(ctx, h.db.limit(ctx))
	if err != nil {
		return 0, 0, h.db.wrap("ReadIndex", OutcomeNotDone, err)
	}
	return b.index, b.term, nil
}

// Forward proposes another member's batch. It comes from the network: what
// does not decode must not reach the log, where it would halt every member.
func (h peerHandler) Forward(ctx context.Context, from transport.Identity, raw []byte) ([]byte, uint64, error) {
	if err := checkBatch(raw, from.From, mostBatchBytes); err != nil {
		return nil, 0, h.db.wrap("Forward", OutcomeNotDone, err)
	}
	if h.db.raft.State() != raft.Leader {
		return nil, 0, h.notLeader("Forward")
	}
	a := h.db.entries.submit(ctx, raw)
	if a.err != nil {
		outcome := OutcomeUnknown
		if a.notDone {
			outcome = OutcomeNotDone
		}
		return nil, 0, h.db.wrap("Forward", outcome, a.err)
	}
	return command.AppendResult(nil, a.result), a.index, nil
}

// Hello tells who leads, as far as known, and where the members are.
func (h peerHandler) Hello(context.Context) (*peerpb.HelloResponse, error) {
	table, err := h.db.membership()
	if err != nil {
		return nil, err
	}
	for i, m := range table.Members {
		if addr, ok := h.db.peers.resolve(m.ID); ok {
			table.Members[i].Addr = addr
		}
	}
	out := &peerpb.HelloResponse{Running: h.db.running(), Members: peerMembers(table)}
	out.LeaderId, out.LeaderAddr, _ = h.db.leader()
	if addr, ok := h.db.peers.resolve(out.LeaderId); ok {
		out.LeaderAddr = addr
	}
	return out, nil
}

// Join takes a newcomer's request to whoever leads.
func (h peerHandler) Join(ctx context.Context, from transport.Identity, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	db := h.db
	cluster := db.cluster()
	switch {
	case cluster == [16]byte{}:
		return nil, db.wrap("Join", OutcomeNotDone, fmt.Errorf("%w: %s is of no cluster itself yet", ErrNoLeader, db.cfg.ID))
	case !bytes.Equal(req.GetToken(), db.id.token[:]):
		return nil, db.wrap("Join", OutcomeNotDone, fmt.Errorf("%w: ClusterToken is not that of %s", ErrWrongCluster, db.cfg.ID))
	case from.From != req.GetId():
		return nil, db.wrap("Join", OutcomeNotDone, fmt.Errorf("%w: %s asks for %s", ErrInvalidArgument, from.From, req.GetId()))
	}
	table, err := db.changeMembers(ctx, "Join", &peerpb.ChangeRequest{Join: req}, nil)
	if err != nil && db.ctx.Err() != nil {
		// What stopped this member must not be taken for what becomes of the joiner.
		return nil, db.wrap("Join", kv.OutcomeOf(err), fmt.Errorf("%w: %s stops", ErrNoLeader, db.cfg.ID))
	}
	if err != nil {
		return nil, err
	}
	return &peerpb.JoinResponse{Cluster: cluster[:], Index: table.Index, Members: peerMembers(table)}, nil
}

// Change does what another member asks of the leader.
func (h peerHandler) Change(ctx context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	if h.db.raft.State() != raft.Leader {
		return nil, h.notLeader("Change")
	}
	if err := h.db.checkChange(req); err != nil {
		return nil, h.db.wrap("Change", OutcomeNotDone, err)
	}
	table, err := h.db.members.change(ctx, req)
	if err != nil {
		return nil, err
	}
	return &peerpb.ChangeResponse{Index: table.Index, Members: peerMembers(table)}, nil
}

func (h peerHandler) notLeader(op string) error {
	return h.db.wrap(op, OutcomeNotDone, ErrNoLeader)
}

// checkBatch decodes a batch of another member on trial. A member speaks for itself, and
// for remote clients: a session opened in the name of another would tell that one that a
// later start of its directory is known, and stop it for good.
func checkBatch(raw []byte, from string, limit int) error {
	if len(raw) > limit {
		return fmt.Errorf("%w: batch of %d bytes", ErrTooLarge, len(raw))
	}
	b, err := command.DecodeBatch(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidArgument, err)
	}
	sessioned := b.Session != command.NoSession
	err = b.Ops(func(_ int, op *command.Op) error {
		switch op.Kind {
		case command.Set, command.Delete, command.DeleteRange, command.Txn, command.Grant, command.Revoke:
			if sessioned && op.Term == 0 { // the leader's own decisions come from its lessor
				return nil
			}
		case command.Compact:
			return nil
		case command.OpenSession:
			if !sessioned && (len(op.Member) == 0 || string(op.Member) == from) {
				return nil
			}
		case command.Epoch: // Admit is the leader's own
			if !sessioned {
				return nil
			}
		}
		return fmt.Errorf("%v in such a batch", op.Kind)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidArgument, err)
	}
	return nil
}

// isVoter says whether id is a voter of the latest configuration.
func (db *DB) isVoter(id string) bool {
	for _, s := range db.configuration().Servers {
		if string(s.ID) == id {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}

// configuration returns raft's latest configuration, committed or not.
func (db *DB) configuration() raft.Configuration {
	f := db.raft.GetConfiguration()
	// The future is complete when it is returned.
	if f.Error() != nil {
		return raft.Configuration{}
	}
	return f.Configuration()
}
