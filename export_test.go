package replkv

import (
	"encoding/binary"
	"hash/crc32"
)

// NewerIdentityForTest returns an identity file as a later version would have
// written it.
func NewerIdentityForTest(b []byte) []byte {
	b = append([]byte{}, b...)
	b[8]++
	n := len(b) - 4
	return binary.LittleEndian.AppendUint32(b[:n], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
}
