package replkv

import (
	"encoding/binary"
	"hash/crc32"
)

// newerVersion returns an encoding that ends in a CRC-32C with the version byte
// at an offset raised, as a later version of this module would have written it.
func newerVersion(b []byte, at int) []byte {
	b = append([]byte{}, b[:len(b)-4]...)
	b[at]++
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// NewerIdentityForTest does that to an identity file.
func NewerIdentityForTest(b []byte) []byte { return newerVersion(b, 8) }

// FatalForTest stops a store as what it met on its disk would.
func FatalForTest(db *DB, err error) { db.fatal(err) }
