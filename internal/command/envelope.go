package command

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/replkv/replkv/kv"
)

// envelopeVersion is raised when an old member could misread a new envelope.
// Unknown versions halt apply: skipping one would make replicas differ.
const envelopeVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Envelope is the payload of one raft log entry. Every logged operation
// travels in one.
type Envelope struct {
	Group uint64 // raft group; 0
	// TimeMillis is the proposer's wall clock in Unix milliseconds. Apply
	// clamps it to its maximum so far (replicated time) and uses it only for
	// session eviction and for mapping age to revision.
	TimeMillis uint64
	Batches    [][]byte // encoded batches, each as AppendBatch made it
}

// AppendEnvelope appends the encoding of e.
func AppendEnvelope(dst []byte, e Envelope) []byte {
	start := len(dst)
	dst = append(dst, envelopeVersion)
	dst = binary.AppendUvarint(dst, e.Group)
	dst = binary.AppendUvarint(dst, e.TimeMillis)
	dst = binary.AppendUvarint(dst, uint64(len(e.Batches)))
	for _, b := range e.Batches {
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		dst = append(dst, b...)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// EnvelopeOverhead bounds the bytes that an envelope adds to its batches.
func EnvelopeOverhead(batches int) int { return 1 + 3*binary.MaxVarintLen64 + 5*batches + 4 }

// DecodeEnvelope decodes an envelope; its batches alias b.
func DecodeEnvelope(b []byte) (Envelope, error) {
	var e Envelope
	if len(b) < 5 {
		return e, fmt.Errorf("%w: command envelope of %d bytes", kv.ErrCorrupt, len(b))
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return e, fmt.Errorf("%w: command envelope checksum is %08x, its bytes give %08x", kv.ErrCorrupt, sum, got)
	}
	if body[0] != envelopeVersion {
		return e, fmt.Errorf("%w: command envelope version %d, this one reads %d", kv.ErrFormatTooNew, body[0], envelopeVersion)
	}
	d := decoder{b: body[1:]}
	e.Group = d.uvarint()
	e.TimeMillis = d.uvarint()
	n := d.count(1)
	if d.err == nil && n > 0 {
		e.Batches = make([][]byte, 0, n)
	}
	for range n {
		e.Batches = append(e.Batches, d.bytes())
	}
	return e, d.finish("command envelope")
}
