package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

// The rows, drawn in docs/format.md ("Raft log"). All numbers are big endian.
// Every value ends in the CRC32C of key and value, which binds a row to its key.
const (
	formatVersion = 1

	spaceFormat = 'F' // one row: magic and format version
	spaceEntry  = 'L' // an entry each
	spaceStable = 'S' // a stable value each

	entryFormat  = 1
	stableFormat = 1

	crcBytes        = 4
	entryKeyBytes   = 1 + 8
	entryHeadBytes  = 1 + 1 + 8 + 8 + 8 + 4 + 4 + 4
	entryOffsetAt   = 1 + 1 + 8
	formatRowBytes  = 8 + 2 + crcBytes
	maxStableKey    = 1 << 10
	maxStableValue  = 1 << 20
	maxBatchBytes   = 1 << 30 // Pebble panics at 4 GiB
	rowMemoryExtras = 64      // slice headers and allocator overhead of a row in memory
)

var (
	formatKey   = []byte{spaceFormat}
	formatMagic = [8]byte{'R', 'K', 'V', 'R', 'L', 'O', 'G', 0}
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// sealed appends the checksum to value.
func sealed(key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(key, value))
}

// unsealed verifies the checksum at the end of row and returns what is before it.
func unsealed(key, row []byte) ([]byte, error) {
	if len(row) < crcBytes {
		return nil, fmt.Errorf("%w: row of %d bytes", kv.ErrCorrupt, len(row))
	}
	value := row[:len(row)-crcBytes]
	if binary.BigEndian.Uint32(row[len(value):]) != checksum(key, value) {
		return nil, fmt.Errorf("%w: checksum mismatch", kv.ErrCorrupt)
	}
	return value, nil
}

func encodeFormat(version uint16) []byte {
	row := append(make([]byte, 0, formatRowBytes), formatMagic[:]...)
	return sealed(formatKey, binary.BigEndian.AppendUint16(row, version))
}

// checkFormat: magic, version and trailing checksum keep their places in all
// versions, so that damage and a newer format can be told apart.
func checkFormat(row []byte) error {
	value, err := unsealed(formatKey, row)
	if err != nil {
		return fmt.Errorf("raft log format row: %w", err)
	}
	if len(value) < len(formatMagic)+2 || [8]byte(value) != formatMagic {
		return fmt.Errorf("raft log format row: %w: bad magic", kv.ErrCorrupt)
	}
	version := binary.BigEndian.Uint16(value[len(formatMagic):])
	if version > formatVersion {
		return fmt.Errorf("raft log: %w: version %d, this program reads up to %d", kv.ErrFormatTooNew, version, formatVersion)
	}
	if version == 0 || len(row) != formatRowBytes {
		return fmt.Errorf("raft log format row: %w: version %d in %d bytes", kv.ErrCorrupt, version, len(row))
	}
	return nil
}

func entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, entryKeyBytes), spaceEntry), index)
}

// entryKeyAfter is the smallest key above the entry at index.
func entryKeyAfter(index uint64) []byte {
	if index == math.MaxUint64 {
		return []byte{spaceEntry + 1}
	}
	return entryKey(index + 1)
}

func decodeEntryKey(key []byte) (uint64, error) {
	if len(key) != entryKeyBytes || key[0] != spaceEntry {
		return 0, fmt.Errorf("%w: entry key %x", kv.ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

func entryRowBytes(l *raft.Log) int {
	return entryHeadBytes + len(l.Extensions) + len(l.Data) + crcBytes
}

// appendEntry appends the row of l with offset and checksum left zero:
// sealEntry sets them once the entry's place in the log is known.
func appendEntry(dst []byte, l *raft.Log) []byte {
	dst = append(dst, entryFormat, byte(l.Type))
	dst = binary.BigEndian.AppendUint64(dst, l.Term)
	dst = binary.BigEndian.AppendUint64(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(l.AppendedAt.Unix()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(l.AppendedAt.Nanosecond()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Extensions)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Data)))
	dst = append(dst, l.Extensions...)
	dst = append(dst, l.Data...)
	return append(dst, 0, 0, 0, 0)
}

// sealEntry sets offset, the bytes of the log before this entry, and the checksum.
func sealEntry(key, row []byte, offset int64) {
	binary.BigEndian.PutUint64(row[entryOffsetAt:], uint64(offset))
	value := row[:len(row)-crcBytes]
	binary.BigEndian.PutUint32(row[len(value):], checksum(key, value))
}

// checkEntry verifies a row that was read from disk.
func checkEntry(key, row []byte) error {
	value, err := unsealed(key, row)
	if err != nil {
		return err
	}
	if len(value) < entryHeadBytes {
		return fmt.Errorf("%w: entry of %d bytes", kv.ErrCorrupt, len(row))
	}
	if value[0] != entryFormat {
		return fmt.Errorf("%w: entry format %d", kv.ErrFormatTooNew, value[0])
	}
	extensions, data := entryLengths(row)
	if uint64(entryHeadBytes)+extensions+data != uint64(len(value)) || entryOffset(row) < 0 {
		return fmt.Errorf("%w: entry lengths %d and %d in a row of %d", kv.ErrCorrupt, extensions, data, len(row))
	}
	return nil
}

func entryLengths(row []byte) (extensions, data uint64) {
	return uint64(binary.BigEndian.Uint32(row[30:])), uint64(binary.BigEndian.Uint32(row[34:]))
}

func entryOffset(row []byte) int64 {
	return int64(binary.BigEndian.Uint64(row[entryOffsetAt:]))
}

// decodeEntry sets all fields of l from a row that checkEntry accepts. Data
// and Extensions are parts of row, so row must never be written again.
func decodeEntry(index uint64, row []byte, l *raft.Log) {
	extensions, data := entryLengths(row)
	middle, end := entryHeadBytes+extensions, entryHeadBytes+extensions+data
	*l = raft.Log{
		Index: index,
		Type:  raft.LogType(row[1]),
		Term:  binary.BigEndian.Uint64(row[2:]),
		AppendedAt: time.Unix(int64(binary.BigEndian.Uint64(row[18:])),
			int64(binary.BigEndian.Uint32(row[26:]))).UTC(),
	}
	if extensions > 0 {
		l.Extensions = row[entryHeadBytes:middle:middle]
	}
	if data > 0 {
		l.Data = row[middle:end:end]
	}
}

func stableKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), spaceStable), key...)
}

func encodeStable(rowKey, value []byte) []byte {
	row := append(make([]byte, 0, 1+len(value)+crcBytes), stableFormat)
	return sealed(rowKey, append(row, value...))
}

// decodeStable returns the part of row that is the value.
func decodeStable(rowKey, row []byte) ([]byte, error) {
	value, err := unsealed(rowKey, row)
	if err != nil {
		return nil, err
	}
	if len(value) == 0 {
		return nil, fmt.Errorf("%w: empty stable row", kv.ErrCorrupt)
	}
	if value[0] != stableFormat {
		return nil, fmt.Errorf("%w: stable row format %d", kv.ErrFormatTooNew, value[0])
	}
	return value[1:], nil
}
