package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/replkv/replkv/kv"
)

// The stream of a checkpoint, used by InstallSnapshot and Backup:
//
//	magic (8) | header length (4) | header | CRC-32C of magic to header (4)
//	{ file bytes | CRC-32C (4) } for each file of the header
//	trailer (8)
//
// Its length follows from the header, so that nothing need be read to know it.
const (
	streamMagic   = "replkvS1"
	streamTrailer = "replkvE1"
	streamVersion = 1

	maxStreamHeader = 16 << 20 // some 500,000 files
)

type sum32 struct{ v uint32 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *sum32) write(b []byte) { s.v = crc32.Update(s.v, castagnoli, b) }

func (s *sum32) bytes() []byte { return binary.LittleEndian.AppendUint32(nil, s.v) }

// streamHeader says what a stream holds.
type streamHeader struct {
	cluster [16]byte
	state   State
	config  []byte
	format  uint64 // Pebble's format version
	files   []fileInfo
}

func (c *Checkpoint) header(cluster [16]byte) *streamHeader {
	return &streamHeader{cluster: cluster, state: c.State, config: c.Config, format: uint64(formatVersion), files: c.files}
}

// size is the length of the stream.
func (h *streamHeader) size() int64 {
	n := int64(len(h.append(nil)) + len(streamTrailer))
	for _, f := range h.files {
		n += f.size + 4
	}
	return n
}

func (h *streamHeader) append(dst []byte) []byte {
	body := []byte{streamVersion}
	body = append(body, h.cluster[:]...)
	body = appendBytes(body, h.state.append(nil))
	body = appendBytes(body, h.config)
	body = binary.AppendUvarint(body, h.format)
	body = binary.AppendUvarint(body, uint64(len(h.files)))
	for _, f := range h.files {
		body = appendBytes(body, []byte(f.name))
		body = binary.AppendUvarint(body, uint64(f.size))
	}
	start := len(dst)
	dst = append(dst, streamMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, body...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// readStreamHeader reads and checks the header of a stream.
func readStreamHeader(r io.Reader) (*streamHeader, error) {
	var fixed [12]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, fmt.Errorf("snapshot stream: %w", noEOF(err))
	}
	if string(fixed[:8]) != streamMagic {
		return nil, fmt.Errorf("%w: snapshot stream begins with %q", kv.ErrCorrupt, fixed[:8])
	}
	n := binary.LittleEndian.Uint32(fixed[8:])
	if n > maxStreamHeader {
		return nil, fmt.Errorf("%w: snapshot stream header of %d bytes", kv.ErrCorrupt, n)
	}
	// Read in steps: a forged length must not allocate what never comes.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)+4))
	if err != nil {
		return nil, fmt.Errorf("snapshot stream: %w", err)
	}
	if len(body) != int(n)+4 {
		return nil, fmt.Errorf("snapshot stream: %w", io.ErrUnexpectedEOF)
	}
	sum := crc32.Update(crc32.Checksum(fixed[:], castagnoli), castagnoli, body[:n])
	if sum != binary.LittleEndian.Uint32(body[n:]) {
		return nil, fmt.Errorf("%w: snapshot stream header checksum", kv.ErrCorrupt)
	}
	return decodeStreamHeader(body[:n])
}

func decodeStreamHeader(b []byte) (*streamHeader, error) {
	short := fmt.Errorf("%w: snapshot stream header ends early", kv.ErrCorrupt)
	if len(b) < 17 {
		return nil, short
	}
	if b[0] != streamVersion {
		return nil, fmt.Errorf("%w: snapshot stream version %d", kv.ErrFormatTooNew, b[0])
	}
	h := &streamHeader{}
	copy(h.cluster[:], b[1:])
	b = b[17:]
	ok := true
	num := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	field := func() []byte {
		n := num()
		if n > uint64(len(b)) {
			ok, b = false, nil
			return nil
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	state := field()
	h.config = field()
	h.format = num()
	files := num()
	if !ok || files > uint64(len(b)/2) {
		return nil, short
	}
	var err error
	if h.state, err = decodeState(state); err != nil {
		return nil, err
	}
	if h.format > uint64(formatVersion) {
		return nil, fmt.Errorf("%w: snapshot of engine format %d, this one reads %d", kv.ErrFormatTooNew, h.format, formatVersion)
	}
	for range files {
		f := fileInfo{name: string(field()), size: int64(num())}
		if !ok || f.size < 0 || len(b) == 0 && len(h.files)+1 < int(files) {
			return nil, short
		}
		if f.name == "" || f.name == "." || f.name == ".." || strings.ContainsAny(f.name, "/\\\x00") {
			return nil, fmt.Errorf("%w: snapshot stream names a file %q", kv.ErrCorrupt, f.name)
		}
		h.files = append(h.files, f)
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: snapshot stream header has %d bytes left over", kv.ErrCorrupt, len(b))
	}
	return h, nil
}

// readFiles reads what follows the header: it hands each file's contents to keep, which
// reads them to their end, and checks them then.
func readFiles(r io.Reader, h *streamHeader, keep func(f fileInfo, contents io.Reader) error) error {
	for _, f := range h.files {
		c := &fileContents{r: r, f: f, left: f.size}
		if err := keep(f, c); err != nil {
			return err
		}
	}
	var trailer [len(streamTrailer)]byte
	if _, err := io.ReadFull(r, trailer[:]); err != nil {
		return noEOF(err)
	}
	if string(trailer[:]) != streamTrailer {
		return fmt.Errorf("%w: snapshot stream ends with %q", kv.ErrCorrupt, trailer)
	}
	return nil
}

// fileContents reads one file of a stream. Its end is io.EOF only if the checksum,
// which it reads besides, is right.
type fileContents struct {
	r     io.Reader
	f     fileInfo
	left  int64
	sum   sum32
	ended bool
}

func (c *fileContents) Read(p []byte) (int, error) {
	if c.left > 0 {
		n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
		c.sum.write(p[:n])
		c.left -= int64(n)
		if n > 0 {
			return n, nil // an error comes again
		}
		if err == nil {
			return 0, nil
		}
		return 0, noEOF(err)
	}
	if !c.ended {
		var want [4]byte
		if _, err := io.ReadFull(c.r, want[:]); err != nil {
			return 0, noEOF(err)
		}
		if string(want[:]) != string(c.sum.bytes()) {
			return 0, fmt.Errorf("%w: snapshot file %s: checksum", kv.ErrCorrupt, c.f.name)
		}
		c.ended = true
	}
	return 0, io.EOF
}
