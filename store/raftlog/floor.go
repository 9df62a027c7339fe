package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// The floor file, drawn in docs/format.md ("Floor").
const (
	floorMagic        = "replkvF1"
	floorVersion      = 1
	floorSlotBytes    = 512  // what disks write whole, more or less; the checksum tells
	floorSlotDistance = 4096 // no sector, of whatever size, holds parts of both slots
	floorFileBytes    = floorSlotDistance + floorSlotBytes
	floorHeadBytes    = 8 + 1 + 6*8 + 2
	maxFloorCandidate = floorSlotBytes - floorHeadBytes - crcBytes
)

// Floor is a small file outside of the log that remembers what the member has
// promised, so that a log which silently lost its end is noticed: see
// [Guard.CheckFloor].
//
// Invariant: the slot that is written is never the one that holds the state,
// so a torn write leaves the state before it.
type Floor struct {
	fs   disk.FS
	name string

	mu struct { // protects the fields below; held across writes, which come one at a time anyway
		sync.Mutex
		state FloorState
		seq   uint64   // of the slot that holds state; 0: no slot does
		slot  int64    // which of the two that is
		file  vfs.File // nil until the first write
		err   error    // of the first write that failed: what the file says is not known since
	}
}

// OpenFloor reads the floor from the file name and says whether there is one;
// if not, the first write creates it. One slot that is damaged is taken for a
// torn write. Errors wrap kv.ErrCorrupt or kv.ErrFormatTooNew where that is the cause.
func OpenFloor(fs disk.FS, name string) (f *Floor, found bool, err error) {
	f = &Floor{fs: fs, name: name}
	b, err := disk.ReadFile(fs, name, 1<<20)
	if errors.Is(err, iofs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("floor: %w", err)
	}
	for i := range int64(2) {
		state, seq, err := decodeFloorSlot(b, i)
		if errors.Is(err, kv.ErrFormatTooNew) {
			return nil, true, fmt.Errorf("floor %s: %w", name, err)
		}
		if err == nil && seq > f.mu.seq {
			f.mu.state, f.mu.seq, f.mu.slot = state, seq, i
		}
	}
	if f.mu.seq == 0 {
		return nil, true, fmt.Errorf("floor %s: %w: neither slot is whole", name, kv.ErrCorrupt)
	}
	return f, true, nil
}

// State is what the file says.
func (f *Floor) State() FloorState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.state
}

// Write makes s the state; when it returns, that is on stable storage. After
// an error it is not known whether it is, and no other write is tried.
func (f *Floor) Write(s FloorState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.err != nil {
		return f.mu.err
	}
	s.Candidate = cutCandidate(s.Candidate)
	if err := f.writeLocked(s); err != nil {
		f.mu.err = fmt.Errorf("floor: %w", err)
		return f.mu.err
	}
	f.mu.state = s
	return nil
}

func (f *Floor) writeLocked(s FloorState) error {
	seq, slot := f.mu.seq+1, 1-f.mu.slot
	if seq == 0 { // nobody has written that often
		return fmt.Errorf("%w: the newest slot has number %d", kv.ErrCorrupt, f.mu.seq)
	}
	b := encodeFloorSlot(s, seq)
	if f.mu.seq == 0 {
		// By rename: a file that is there but has no whole slot is damage.
		if err := disk.WriteFile(f.fs, f.name, append(make([]byte, floorSlotDistance), b...)); err != nil {
			return err
		}
	}
	if f.mu.file == nil {
		file, err := f.fs.OpenReadWrite(f.name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		f.mu.file = file
	}
	if f.mu.seq > 0 {
		if _, err := f.mu.file.WriteAt(b, slot*floorSlotDistance); err != nil {
			return err
		}
		if err := f.mu.file.SyncData(); err != nil {
			return err
		}
	}
	f.mu.seq, f.mu.slot = seq, slot
	return nil
}

// Close closes the file. A Guard that was given the Floor does it.
func (f *Floor) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file := f.mu.file
	f.mu.file = nil
	if f.mu.err == nil {
		f.mu.err = ErrClosed
	}
	if file == nil {
		return nil
	}
	return file.Close()
}

func encodeFloorSlot(s FloorState, seq uint64) []byte {
	b := append(make([]byte, 0, floorSlotBytes), floorMagic...)
	b = append(b, floorVersion)
	for _, v := range [...]uint64{seq, s.Term, s.VoteTerm, s.Index, s.IndexTerm, s.Applied} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Candidate)))
	b = append(b, s.Candidate...)
	b = b[:floorSlotBytes]
	binary.BigEndian.PutUint32(b[floorSlotBytes-crcBytes:], crc32.Checksum(b[:floorSlotBytes-crcBytes], castagnoli))
	return b
}

// decodeFloorSlot reads slot i (0 or 1) of a file. Magic, version and checksum
// keep their places in all versions.
func decodeFloorSlot(file []byte, i int64) (s FloorState, seq uint64, err error) {
	at := i * floorSlotDistance
	if int64(len(file)) < at+floorSlotBytes {
		return s, 0, fmt.Errorf("%w: floor slot: %w", kv.ErrCorrupt, io.ErrUnexpectedEOF)
	}
	b := file[at : at+floorSlotBytes]
	body := b[:floorSlotBytes-crcBytes]
	if binary.BigEndian.Uint32(b[len(body):]) != crc32.Checksum(body, castagnoli) || string(b[:8]) != floorMagic {
		return s, 0, fmt.Errorf("%w: floor slot: magic or checksum", kv.ErrCorrupt)
	}
	if b[8] > floorVersion {
		return s, 0, fmt.Errorf("%w: floor version %d, this program reads up to %d", kv.ErrFormatTooNew, b[8], floorVersion)
	}
	var v [6]uint64
	for i := range v {
		v[i] = binary.BigEndian.Uint64(b[9+8*i:])
	}
	n := int(binary.BigEndian.Uint16(b[floorHeadBytes-2:]))
	if b[8] == 0 || v[0] == 0 || n > maxFloorCandidate {
		return s, 0, fmt.Errorf("%w: floor slot: version %d, sequence %d, candidate of %d bytes", kv.ErrCorrupt, b[8], v[0], n)
	}
	return FloorState{Term: v[1], VoteTerm: v[2], Index: v[3], IndexTerm: v[4], Applied: v[5],
		Candidate: string(b[floorHeadBytes : floorHeadBytes+n])}, v[0], nil
}
