package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// Settings are the limits that apply itself evaluates. They are replicated:
// local configuration in apply would make members differ. They begin with
// these constants, which are part of the format, and change by a logged
// command.
const (
	SettingRangeKeys  = 1 // keys that one DeleteRange may delete, and a transaction look at in ranges
	SettingRangeBytes = 2 // bytes of keys, and of values if asked for, that it may touch
	SettingSessions   = 3 // sessions kept; beyond, the one unused longest goes
	// SettingResponseBytes: keys and values that one transaction may return.
	SettingResponseBytes = 4
	// SettingIndexRows: index rows that a comparison of a range with a revision may
	// look into; there is about one for each log entry.
	SettingIndexRows = 5
	// SettingEntryKeys: live keys that the ranges of all operations of one log entry may
	// look at, some seconds of work; beyond, operations over ranges are too large. Not
	// rows: how many dead ones are left is a member's own affair.
	SettingEntryKeys = 6
	// A revoke deletes all keys of a lease at one revision.
	SettingLeaseKeys  = 10 // keys that may hang on one lease
	SettingLeaseBytes = 11 // bytes of these keys: a list of them fits a message
	SettingLeases     = 12 // leases there may be
)

type settings struct {
	rangeKeys, rangeBytes, sessions uint64
	responseBytes, indexRows        uint64
	entryKeys                       uint64
	leaseKeys, leaseBytes, leases   uint64
}

func defaultSettings() settings {
	return settings{rangeKeys: 100_000, rangeBytes: 16 << 20, sessions: 10_000, responseBytes: 1 << 20, indexRows: 1000, entryKeys: 2_000_000,
		leaseKeys: 10_000, leaseBytes: 2 << 20, leases: 100_000}
}

func (s *settings) field(id uint64) *uint64 {
	switch id {
	case SettingRangeKeys:
		return &s.rangeKeys
	case SettingRangeBytes:
		return &s.rangeBytes
	case SettingSessions:
		return &s.sessions
	case SettingResponseBytes:
		return &s.responseBytes
	case SettingIndexRows:
		return &s.indexRows
	case SettingEntryKeys:
		return &s.entryKeys
	case SettingLeaseKeys:
		return &s.leaseKeys
	case SettingLeaseBytes:
		return &s.leaseBytes
	case SettingLeases:
		return &s.leases
	}
	return nil
}

func loadSettings(db *pebble.DB) (settings, error) {
	s := defaultSettings()
	lower, upper := spaceBounds(spaceSetting)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s, asCorrupt(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), it.Value()
		if len(k) != 10 || len(v) != 8 {
			return s, errors.Join(fmt.Errorf("%w: setting row %x", kv.ErrCorrupt, k), it.Close())
		}
		f := s.field(binary.BigEndian.Uint64(k[1:]))
		if f == nil {
			return s, errors.Join(fmt.Errorf("%w: setting %x", kv.ErrFormatTooNew, k), it.Close())
		}
		*f = binary.BigEndian.Uint64(v)
	}
	return s, errors.Join(asCorrupt(it.Error()), it.Close())
}

func (a *applier) setting(op *command.Op) (command.OpStatus, error) {
	f := a.settings.field(op.ID)
	if f == nil {
		// A newer member proposed it; to ignore it would make us differ.
		return 0, fmt.Errorf("%w: setting %d", kv.ErrFormatTooNew, op.ID)
	}
	if op.Number == 0 {
		return command.Invalid, nil
	}
	*f = op.Number
	return command.OK, a.batch.Set(settingKey(op.ID), binary.BigEndian.AppendUint64(nil, op.Number), nil)
}
