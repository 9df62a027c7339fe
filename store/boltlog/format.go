package boltlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

// What this package adds to raft-boltdb's rows, drawn in docs/format.md ("Raft
// log in bolt"). All numbers are big endian; checksums are CRC32C.
const (
	formatVersion = 1

	crcBytes = 4
	// trailerBytes follow an entry's Extensions: offset, checksum.
	trailerBytes = 8 + crcBytes
	// headBytes of an entry go into its checksum besides its two byte fields:
	// index, term, type, seconds, nanoseconds, length of Extensions, offset.
	headBytes = 8 + 8 + 1 + 8 + 4 + 8 + 8
	// entryExtraBytes is what an entry counts besides Data and Extensions. It
	// is part of the format: offsets are sums of it.
	entryExtraBytes = 64

	maxStableKey   = 1 << 10
	maxStableValue = 1 << 20
	maxBatchBytes  = 1 << 30
)

var (
	formatKey   = []byte("replkv format")
	formatMagic = [8]byte{'R', 'K', 'V', 'B', 'O', 'L', 'T', 0}
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// sealed appends to value its checksum, which binds it to its key.
func sealed(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	row := append(make([]byte, 0, len(value)+crcBytes), value...)
	return binary.BigEndian.AppendUint32(row, sum)
}

// unsealed verifies the checksum at the end of row and returns what is before it.
func unsealed(key, row []byte) ([]byte, error) {
	if len(row) < crcBytes {
		return nil, fmt.Errorf("%w: row of %d bytes", kv.ErrCorrupt, len(row))
	}
	value := row[: len(row)-crcBytes : len(row)-crcBytes]
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	if binary.BigEndian.Uint32(row[len(value):]) != sum {
		return nil, fmt.Errorf("%w: checksum mismatch", kv.ErrCorrupt)
	}
	return value, nil
}

func encodeFormat(version uint16) []byte {
	return sealed(formatKey, binary.BigEndian.AppendUint16(formatMagic[:], version))
}

// checkFormat: magic, version and trailing checksum keep their places in all
// versions, so that damage and a newer format can be told apart.
func checkFormat(row []byte) error {
	value, err := unsealed(formatKey, row)
	if err != nil {
		return fmt.Errorf("format row: %w", err)
	}
	if len(value) < len(formatMagic)+2 || [8]byte(value) != formatMagic {
		return fmt.Errorf("format row: %w: bad magic", kv.ErrCorrupt)
	}
	switch version := binary.BigEndian.Uint16(value[len(formatMagic):]); {
	case version == 0:
		return fmt.Errorf("format row: %w: version 0", kv.ErrCorrupt)
	case version > formatVersion:
		return fmt.Errorf("%w: raft log version %d, known are versions up to %d", kv.ErrFormatTooNew, version, formatVersion)
	}
	return nil
}

// entryBytes is what an entry counts for offsets.
func entryBytes(entry *raft.Log) int64 {
	return int64(len(entry.Data)) + int64(len(entry.Extensions)) + entryExtraBytes
}

// sealEntry is a copy of entry as raft-boltdb gets to store it: with offset
// and checksum behind its Extensions, so that tools find all else in its place.
func sealEntry(entry *raft.Log, offset int64) *raft.Log {
	out := *entry
	out.AppendedAt = entry.AppendedAt.UTC()
	out.Extensions = append(make([]byte, 0, len(entry.Extensions)+trailerBytes), entry.Extensions...)
	out.Extensions = binary.BigEndian.AppendUint64(out.Extensions, uint64(offset))
	out.Extensions = binary.BigEndian.AppendUint32(out.Extensions, entryChecksum(&out, entry.Extensions, offset))
	return &out
}

// unsealEntry verifies the entry that was stored at index, takes off what
// sealEntry added, and returns the offset.
func unsealEntry(index uint64, stored *raft.Log) (int64, error) {
	n := len(stored.Extensions) - trailerBytes
	if n < 0 {
		return 0, fmt.Errorf("%w: no checksum", kv.ErrCorrupt)
	}
	trailer := stored.Extensions[n:]
	offset := int64(binary.BigEndian.Uint64(trailer))
	extensions := stored.Extensions[:n:n]
	if binary.BigEndian.Uint32(trailer[8:]) != entryChecksum(stored, extensions, offset) {
		return 0, fmt.Errorf("%w: checksum mismatch", kv.ErrCorrupt)
	}
	if stored.Index != index {
		return 0, fmt.Errorf("%w: it is entry %d", kv.ErrCorrupt, stored.Index)
	}
	stored.Extensions = extensions
	stored.AppendedAt = stored.AppendedAt.UTC()
	return offset, nil
}

func entryChecksum(entry *raft.Log, extensions []byte, offset int64) uint32 {
	head := make([]byte, 0, headBytes)
	head = binary.BigEndian.AppendUint64(head, entry.Index)
	head = binary.BigEndian.AppendUint64(head, entry.Term)
	head = append(head, byte(entry.Type))
	head = binary.BigEndian.AppendUint64(head, uint64(entry.AppendedAt.Unix()))
	head = binary.BigEndian.AppendUint32(head, uint32(entry.AppendedAt.Nanosecond()))
	head = binary.BigEndian.AppendUint64(head, uint64(len(extensions)))
	head = binary.BigEndian.AppendUint64(head, uint64(offset))
	sum := crc32.Checksum(head, castagnoli)
	sum = crc32.Update(sum, castagnoli, extensions)
	return crc32.Update(sum, castagnoli, entry.Data)
}
