package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// head is the newest row of a key as apply sees it.
type head struct {
	mod   uint64 // 0: the key never was, or its history is gone
	row   row    // valid with hasRow
	tomb  bool
	known bool // row is filled in (the cache knows mod and tomb only)
}

func (h *head) live() bool { return h.mod != 0 && !h.tomb }

// set applies a Set. Without a condition it is blind: it reads nothing.
func (a *applier) set(op *command.Op) (command.OpStatus, error) {
	if len(op.Key) == 0 {
		return command.Invalid, nil
	}
	if op.Conditional {
		h, err := a.head(op.Key, false)
		if err != nil {
			return 0, err
		}
		if !conditionHolds(&h, op.IfRevision) {
			return command.Conflict, nil
		}
		a.learn(op.Key, &h)
	}
	if op.Lease != 0 {
		if status, err := a.mayAttach(op.Key, op.Lease); status != command.OK || err != nil {
			return status, err
		}
		if err := a.attach(op.Key, op.Lease); err != nil {
			return 0, err
		}
	}
	a.st.Revision++
	r := row{lease: op.Lease, value: op.Value}
	if err := a.resolveNew(op.Key, &r); err != nil {
		return 0, err
	}
	return command.OK, a.write(op.Key, 0, &r)
}

// conditionHolds: the key's ModRevision is want; 0 asks for absence.
func conditionHolds(h *head, want uint64) bool {
	if want == 0 {
		return !h.live()
	}
	return h.live() && h.mod == want
}

func (a *applier) delete(op *command.Op) (command.OpResult, error) {
	res := command.OpResult{Status: command.OK}
	if len(op.Key) == 0 {
		res.Status = command.Invalid
		return res, nil
	}
	h, err := a.head(op.Key, op.ReturnPrev)
	if err != nil {
		return res, err
	}
	if op.Conditional && !conditionHolds(&h, op.IfRevision) {
		res.Status = command.Conflict
		return res, nil
	}
	if !h.live() {
		return res, nil // a delete of nothing does not advance the revision
	}
	if op.ReturnPrev {
		if err := a.appendPrev(&res, op.Key, &h); err != nil {
			return res, err
		}
	}
	a.st.Revision++
	res.Deleted = 1
	return res, a.write(op.Key, 0, &row{tombstone: true})
}

// deleteRange removes all keys of a range at one revision: a tombstone row per
// existing key, never a Pebble range tombstone, since history stays readable.
// Its work is not bounded by the entry's size, so a limit on keys and bytes
// refuses it before any effect.
func (a *applier) deleteRange(op *command.Op) (command.OpResult, error) {
	res := command.OpResult{Status: command.OK}
	if !op.Open && string(op.Key) > string(op.To) {
		res.Status = command.Invalid
		return res, nil
	}
	limit := a.settings.rangeKeys
	if op.MaxKeys > 0 {
		limit = min(limit, op.MaxKeys)
	}
	var keys [][]byte
	bytes := uint64(0)
	fits, err := a.liveKeys(op.Key, op.To, op.Open, func(key []byte, h *head) (bool, error) {
		bytes += uint64(len(key))
		keys = append(keys, slices.Clone(key))
		if op.ReturnPrev {
			bytes += uint64(len(h.row.value))
			if err := a.appendPrev(&res, key, h); err != nil {
				return false, err
			}
		}
		return uint64(len(keys)) <= limit && bytes <= a.settings.rangeBytes, nil
	})
	if err != nil && !errors.Is(err, errEntryTooLarge) {
		return res, err
	}
	if !fits {
		return command.OpResult{Status: command.TooLarge}, nil
	}
	if len(keys) == 0 {
		return res, nil
	}
	a.st.Revision++
	res.Deleted = uint64(len(keys))
	for i, key := range keys {
		if err := a.write(key, uint64(i), &row{tombstone: true}); err != nil {
			return res, err
		}
	}
	return res, nil
}

func (a *applier) compact(op *command.Op) (command.OpStatus, error) {
	rev := kv.Revision(op.Revision)
	switch {
	case rev <= a.st.Compacted:
		return command.Compacted, nil
	case rev > a.st.Revision:
		return command.Future, nil
	}
	a.st.Compacted = rev
	return command.OK, nil
}

// write writes the row of key at the current revision.
func (a *applier) write(key []byte, sub uint64, r *row) error {
	r.sub = sub
	a.over.add(key, uint64(a.st.Revision), r)
	return a.emit(key, r)
}

// emit writes a row of the current revision that the overlay has, its index
// element, and its effect.
func (a *applier) emit(key []byte, r *row) error {
	rev := uint64(a.st.Revision)
	kind := Put
	if r.tombstone {
		kind = Remove
		a.s.recent.Load().put(key, recentSlot{mod: rev, tomb: true}, nil)
	}
	a.index.add(rev, r.sub, kind, key)
	var head [maxRowHeader]byte
	header := r.appendHeader(head[:0])
	op := a.batch.SetDeferred(len(key)+2+suffixLen, len(header)+len(r.value))
	appendVersion(appendBare(op.Key[:0], key), rev)
	copy(op.Value[copy(op.Value, header):], r.value)
	if err := op.Finish(); err != nil {
		return err
	}
	a.hashRow(key, rev, r)
	return nil
}

// hashRow adds the logical row, not whether it is resolved, to the effects.
func (a *applier) hashRow(key []byte, rev uint64, r *row) {
	b := binary.AppendUvarint(a.scratch, rev)
	b = binary.AppendUvarint(b, r.sub)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	if r.tombstone {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(r.value))+1)
	}
	b = binary.AppendUvarint(b, r.lease)
	if len(b) > 4096 || len(r.value) > 512 {
		a.chain.Write(b)
		a.chain.Write(r.value)
		a.scratch = b[:0]
		return
	}
	a.scratch = append(b, r.value...)
}
