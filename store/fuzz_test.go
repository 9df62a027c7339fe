package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/replkv/replkv/kv"
)

// The decoders take hostile bytes, as those of internal/command do: corrupt or
// too new, no panic, memory in proportion; what decodes comes back the same.

func checkError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrFormatTooNew) {
		t.Fatalf("neither corrupt nor too new: %v", err)
	}
}

// fuzzDecoder checks recode, which decodes its input and encodes it again.
func fuzzDecoder(f *testing.F, recode func([]byte) ([]byte, error)) {
	f.Fuzz(func(t *testing.T, in []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := recode(in)
		runtime.ReadMemStats(&after)
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(64*len(in)+64<<10); got > limit {
			t.Fatalf("%d bytes allocated for an input of %d", got, len(in))
		}
		if err != nil {
			checkError(t, err)
			return
		}
		if again, err := recode(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%x came back as %x, %v", out, again, err)
		}
	})
}

func FuzzDataRow(f *testing.F) {
	for _, r := range goldenRows() {
		f.Add(r.encode())
	}
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		r, err := decodeRow(b)
		return r.encode(), err
	})
}

func FuzzDataKey(f *testing.F) {
	f.Add(legal([]byte("\x10k"), 300))
	f.Add(legal([]byte("\x10"), 300))
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		key, rev, err := splitData(b)
		if err != nil {
			return nil, err
		}
		out := appendVersion(appendBare(nil, key), rev)
		if !bytes.Equal(out, b) {
			return nil, errors.New("two keys say the same")
		}
		return out, nil
	})
}

func FuzzState(f *testing.F) {
	s := goldenState()
	f.Add(s.append(nil))
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		s, err := decodeState(b)
		return s.append(nil), err
	})
}

func FuzzSession(f *testing.F) {
	f.Add((&session{member: []byte("n1"), lowWater: 1 << 40}).append(nil))
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		s, err := decodeSession(b)
		if err != nil {
			return nil, err
		}
		return s.append(nil), nil
	})
}

// FuzzSessionRows loads a row under a hostile key.
func FuzzSessionRows(f *testing.F) {
	row := (&session{}).append(nil)
	f.Add(sessionKey(goldenSession), row)
	f.Add(sessionResultKey(goldenSession, 1), row)
	f.Fuzz(func(t *testing.T, k, v []byte) {
		for _, table := range []sessions{{}, {goldenSession: &session{results: map[uint64][]byte{}}}} {
			if err := table.load(k, v); err != nil {
				checkError(t, err)
			}
		}
	})
}

func FuzzIndexRow(f *testing.F) {
	var x indexBuilder
	x.reset(1_700_000_000_000)
	for i := range uint64(5) {
		x.add(300+i/2, i, Put+ChangeKind(i%2), []byte("key\x00"))
	}
	f.Add(bytes.Clone(x.cur))
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		var changes []IndexedChange
		millis, err := decodeIndexRow(b, func(c IndexedChange) { changes = append(changes, c) })
		if err != nil {
			return nil, err
		}
		out := binary.AppendUvarint([]byte{indexVersion}, millis)
		last := uint64(0)
		for _, c := range changes {
			out = binary.AppendUvarint(out, uint64(c.Revision)-last)
			out = binary.AppendUvarint(out, c.Sub)
			out = append(out, byte(c.Kind))
			out = appendBytes(out, c.Key)
			last = uint64(c.Revision)
		}
		return out, nil
	})
}

// FuzzStreamHeader gives the decoder the input as a header's body.
func FuzzStreamHeader(f *testing.F) {
	b := goldenHeader().append(nil)
	f.Add(b[12 : len(b)-4])
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		h, err := decodeStreamHeader(b)
		if err != nil {
			return nil, err
		}
		out := h.append(nil)
		return out[12 : len(out)-4], nil
	})
}

// FuzzStream gives the reader the input as it is, and framed with a good
// checksum. A stream may also end early, which is nobody's damage.
func FuzzStream(f *testing.F) {
	b := goldenHeader().append(nil)
	f.Add(b)
	f.Add(b[12 : len(b)-4])
	f.Add(append([]byte(streamMagic), 0xff, 0xff, 0xff, 0, 1, 2, 3)) // a forged length
	f.Fuzz(func(t *testing.T, in []byte) {
		framed := binary.LittleEndian.AppendUint32([]byte(streamMagic), uint32(len(in)))
		framed = append(framed, in...)
		framed = binary.LittleEndian.AppendUint32(framed, crc32.Checksum(framed, castagnoli))
		for _, b := range [][]byte{in, framed} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			h, err := readStreamHeader(bytes.NewReader(b))
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > uint64(64*len(b)+64<<10) {
				t.Fatalf("%d bytes allocated for an input of %d", got, len(b))
			}
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				checkError(t, err)
			}
			if err == nil && len(h.files) > len(b) {
				t.Fatalf("%d files in %d bytes", len(h.files), len(b))
			}
		}
	})
}

func FuzzLeaseRow(f *testing.F) {
	f.Add((&Lease{Generation: 300, TTL: time.Minute, Remaining: time.Second, Hints: 2, HintBytes: 300}).append(nil))
	f.Add([]byte{leaseVersion, 0, 1, 2, 0, 0}) // more remains than there was
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		l, err := decodeLease(b)
		return l.append(nil), err
	})
}

func FuzzMemberRow(f *testing.F) {
	f.Add((&Member{Incarnation: [16]byte{1}, Start: start(300, 77), Sessions: 2, Added: 1 << 40, Promote: true}).append(nil))
	f.Add((&Member{}).append(nil))
	fuzzDecoder(f, func(b []byte) ([]byte, error) {
		m, err := decodeMember(b)
		return m.append(nil), err
	})
}
