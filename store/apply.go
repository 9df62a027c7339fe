package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// EntryKind is what a log entry holds, as far as the state machine cares.
type EntryKind uint8

const (
	Command       EntryKind = iota // Data is a command envelope
	Configuration                  // Data is a configuration, opaque here
	founding                       // the same, of a new cluster (Found); never in a log
)

// Entry is a committed log entry. Data is only read until Apply returns.
type Entry struct {
	Index, Term uint64
	Kind        EntryKind
	Data        []byte
	Refs        []Ref // of a Configuration: what Data says
}

// Result is the answer to one entry.
type Result struct {
	// Skipped: the entry was applied before (a replay after a restart).
	Skipped bool
	// Batches has the result of each batch of a command. Its byte slices
	// belong to the caller.
	Batches []*command.BatchResult
}

// Limits of one Pebble batch: entries beyond go into the next, each with its
// own applied index, so that a burst of large entries needs bounded memory.
const (
	maxApplyBytes = 4 << 20
	maxApplyRows  = 4096
)

// The responses to the transactions of one entry are bounded: a batch has up to 4096,
// each of which may return SettingResponseBytes. Beyond, only those stay whole that are
// as small as an Update's. So is what its deletions return: by what one of them may,
// SettingRangeBytes. Part of the format.
const (
	maxEntryResponses = 4 << 20
	smallResponse     = 1 << 10
)

// maxScratch is what applying keeps of memory that a large entry needed.
const maxScratch = 1 << 20

var errEntryTooLarge = errors.New("the entry's ranges hold too many keys")

// Apply applies committed entries in index order; those at or below the
// applied index are skipped. An error is fatal: the member must stop, and
// nothing after the last whole Pebble batch was applied. Apply is
// deterministic: its effects depend on the entries and the state alone, not on
// clock, randomness, map order, local options, or how entries are grouped.
func (s *Store) Apply(entries []Entry) ([]Result, error) {
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.Err(); err != nil {
		return nil, err
	}
	eng, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer eng.release()
	results := make([]Result, len(entries))
	a := &s.apply.applier
	a.begin(eng.db)
	for i := range entries {
		if results[i], err = a.entry(&entries[i]); err != nil {
			break
		}
		if a.batch.Len() > maxApplyBytes || len(a.over.rows) > maxApplyRows {
			if err = a.commit(); err != nil {
				break
			}
			a.begin(eng.db)
		}
	}
	if err == nil {
		err = a.commit()
	}
	if err != nil {
		a.abandon()
		s.fail(err)
		return nil, err
	}
	return results, nil
}

// Advance moves the applied index to (index, term) if it is below: the log
// holds entries, raft's no-ops, that the state machine never sees, and a
// snapshot must say that it covers them.
func (s *Store) Advance(index, term uint64) error {
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	if s.state.Load().Index >= index {
		return nil
	}
	eng, err := s.acquire()
	if err != nil {
		return err
	}
	defer eng.release()
	a := &s.apply.applier
	a.begin(eng.db)
	a.st.Index, a.st.Term = index, max(term, a.st.Term)
	if err := a.commit(); err != nil {
		s.fail(err)
		return err
	}
	return nil
}

// applier is the state of applying. It lives as long as the store; what it
// keeps between batches are buffers and the replicated tables.
type applier struct {
	s        *Store
	st       State // including the open batch
	settings settings
	sessions sessions
	members  members
	leases   leases
	// membersChanged in the open batch: they are to be published.
	membersChanged bool

	db     *pebble.DB
	batch  *pebble.Batch
	iter   *pebble.Iterator // over committed data; opened at need, closed at commit
	config []byte           // set by a configuration entry of the open batch
	over   overlay

	chain   hash.Hash
	scratch []byte // effects on their way into chain
	index   indexBuilder
	// openIndex has the index rows of the open batch.
	openIndex []openRow
	// Of the entry being applied: bytes of the responses to transactions, and of what
	// deletions return, live keys that ranges looked at, and its index.
	answered int
	returned uint64
	ranged   uint64
	at       uint64
	key      []byte
}

// adopt starts from a state that was just loaded.
func (a *applier) adopt(s *Store, st State, set settings, sess sessions, m members) {
	a.s, a.st, a.settings, a.sessions, a.members = s, st, set, sess, m
	a.chain = sha256.New()
}

func (a *applier) begin(db *pebble.DB) {
	a.db, a.batch, a.config = db, db.NewBatch(), nil
	a.openIndex = a.openIndex[:0]
	if cap(a.scratch) > maxScratch {
		a.scratch = nil
	}
	a.over.reset()
	clear(a.leases.hints)
}

// abandon drops the open batch after an error.
func (a *applier) abandon() {
	a.closeIter()
	if a.batch != nil {
		a.batch.Close()
		a.batch = nil
	}
}

func (a *applier) closeIter() error {
	if a.iter == nil {
		return nil
	}
	err := a.iter.Close()
	a.iter = nil
	return err
}

// commit writes the open batch and publishes its state to readers.
func (a *applier) commit() error {
	if err := a.closeIter(); err != nil {
		return fmt.Errorf("state: %w", asCorrupt(err))
	}
	if a.st == *a.s.state.Load() && a.batch.Empty() {
		err := a.batch.Close()
		a.batch = nil
		return err
	}
	a.scratch = a.st.append(a.scratch[:0])
	err := a.batch.Set(stateKey, a.scratch, nil)
	if err == nil && a.config != nil {
		err = a.batch.Set(configKey, a.config, nil)
	}
	if err == nil {
		err = a.batch.Commit(pebble.NoSync) // explicitly: nil would mean Sync
	}
	if err == nil {
		err = a.batch.Close()
		a.batch = nil
	}
	if err != nil {
		return fmt.Errorf("state: commit: %w", err)
	}
	if a.config != nil {
		a.s.mu.Lock()
		a.s.mu.config, a.s.mu.configIndex = a.config, a.st.ConfigIndex
		a.s.mu.Unlock()
	}
	changed := a.membersChanged
	if changed { // before the state: who sees the index sees them
		published := maps.Clone(a.members)
		a.s.members.Store(&published)
		a.membersChanged = false
	}
	a.publishLeases()
	st := a.st
	if old := a.s.state.Swap(&st); st.Compacted != old.Compacted {
		a.s.janitor.compacted()
	}
	if changed {
		a.s.opts.OnMembers()
	}
	return nil
}

func (a *applier) entry(e *Entry) (Result, error) {
	if e.Index <= a.st.Index {
		return Result{Skipped: true}, nil
	}
	var res Result
	a.chain.Reset()
	a.chain.Write(a.st.Chain[:])
	a.scratch = binary.AppendUvarint(binary.AppendUvarint(a.scratch[:0], e.Index), e.Term)
	a.index.reset(a.st.TimeMillis)
	a.at, a.answered, a.returned, a.ranged = e.Index, 0, 0, 0
	var err error
	switch e.Kind {
	case Configuration, founding:
		a.config = append([]byte{}, e.Data...)
		a.st.ConfigIndex = e.Index
		a.scratch = append(a.scratch, e.Data...)
		if e.Kind == founding {
			err = a.found(e)
		} else {
			err = a.configure(e.Index, e.Refs)
		}
	case Command:
		res.Batches, err = a.command(e)
	default:
		err = fmt.Errorf("%w: entry kind %d", kv.ErrFormatTooNew, e.Kind)
	}
	if err == nil {
		err = a.index.flush(func(k, v []byte) error {
			a.openIndex = append(a.openIndex, openRow{a.index.newest, len(v)})
			return a.batch.Set(k, v, nil)
		})
	}
	if err != nil {
		return Result{}, fmt.Errorf("apply entry %d of term %d: %w", e.Index, e.Term, err)
	}
	a.chain.Write(a.scratch)
	a.chain.Sum(a.st.Chain[:0])
	a.st.Index, a.st.Term = e.Index, e.Term
	return res, nil
}

func (a *applier) command(e *Entry) ([]*command.BatchResult, error) {
	env, err := command.DecodeEnvelope(e.Data)
	if err != nil {
		return nil, err
	}
	if env.Group != 0 {
		return nil, fmt.Errorf("%w: raft group %d", kv.ErrFormatTooNew, env.Group)
	}
	a.st.TimeMillis = max(a.st.TimeMillis, env.TimeMillis)
	a.st.CommandTerm = e.Term
	a.index.reset(a.st.TimeMillis)
	out := make([]*command.BatchResult, len(env.Batches))
	for i, raw := range env.Batches {
		b, err := command.DecodeBatch(raw)
		if err != nil {
			return nil, err
		}
		if out[i], err = a.sessionBatch(&b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// batchOps applies the operations of a batch whose session is in order.
func (a *applier) batchOps(b *command.Batch) (*command.BatchResult, error) {
	res := &command.BatchResult{Status: command.Applied, Ops: make([]command.OpResult, b.Len())}
	err := b.Ops(func(i int, op *command.Op) error {
		r, err := a.op(op, b.Session != command.NoSession)
		if a.answered += len(r.Response); a.answered > maxEntryResponses && len(r.Response) > smallResponse {
			r = r.WithoutResponse()
		}
		prev := r.PrevBytes()
		if a.returned += uint64(prev); a.returned > a.settings.rangeBytes && prev > smallResponse {
			r = r.WithoutResponse()
		}
		r.Revision = uint64(a.st.Revision)
		res.Ops[i] = r
		return err
	})
	return res, err
}

var errNeedsSession = errors.New("operation outside of a session")

func (a *applier) op(op *command.Op, inSession bool) (command.OpResult, error) {
	var res command.OpResult
	var err error
	a.s.looks.Add(1)
	switch op.Kind {
	case command.Set, command.Delete, command.DeleteRange, command.Txn, command.Grant, command.Revoke:
		if !inSession && op.Term == 0 {
			return res, fmt.Errorf("%w: %w: %v", kv.ErrCorrupt, errNeedsSession, op.Kind)
		}
	case command.OpenSession, command.Admit:
		if inSession { // it could end the very session whose batch this is
			res.Status = command.Invalid
			return res, nil
		}
	}
	switch op.Kind {
	case command.Set:
		res.Status, err = a.set(op)
	case command.Delete:
		res, err = a.delete(op)
	case command.DeleteRange:
		res, err = a.deleteRange(op)
	case command.Txn:
		res, err = a.txn(op)
	case command.Grant:
		res.Status, err = a.grant(op)
	case command.Revoke:
		res, err = a.revoke(op)
	case command.Renew:
		res.Status, err = a.renew(op)
	case command.Epoch:
		res.Status = command.OK // CommandTerm is its effect
	case command.OpenSession:
		res.Status, err = a.openSession(op)
	case command.Admit:
		res.Status, err = a.admit(op)
	case command.Compact:
		res.Status, err = a.compact(op)
	case command.Setting:
		res.Status, err = a.setting(op)
	default:
		err = fmt.Errorf("%w: operation %v", kv.ErrFormatTooNew, op.Kind)
	}
	return res, err
}
