package replkv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/internal/command"
)

func goldenIdentity() *identity {
	return &identity{cluster: [16]byte{1}, token: [16]byte{2}, incarnation: [16]byte{3}, begun: true, settled: true, since: 300, id: "m1",
		starts: []command.Start{{Number: 1, Boot: 77}, {Number: 2, Boot: 78}}}
}

// FuzzIdentity gives the decoder the input as it is, and with a good checksum.
// What decodes is written as it was read, but for flags that do not exist.
func FuzzIdentity(f *testing.F) {
	b := goldenIdentity().append(nil)
	f.Add(b)
	f.Add(b[:len(b)-4])
	f.Add((&identity{}).append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		sealed := binary.LittleEndian.AppendUint32(bytes.Clone(in), crc32.Checksum(in, crc32.MakeTable(crc32.Castagnoli)))
		for _, b := range [][]byte{in, sealed} {
			d, err := decodeIdentity(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormatTooNew) {
					t.Fatalf("neither corrupt nor too new: %v", err)
				}
				continue
			}
			out := d.append(nil)
			if back, err := decodeIdentity(out); err != nil || !bytes.Equal(back.append(nil), out) || len(out) != len(b) {
				t.Fatalf("%x came back as %x, %v", b, out, err)
			}
		}
	})
}

// FuzzConfiguration: garbage is an error, where raft's own decoder panics.
func FuzzConfiguration(f *testing.F) {
	f.Add(raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a:1"}, {ID: "b", Address: "b:1", Suffrage: raft.Nonvoter}}}))
	f.Add([]byte("\x81\xa7Servers\x91\x81\xa2ID\xdb\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := decodeConfiguration(in)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if back, err := decodeConfiguration(raft.EncodeConfiguration(c)); err != nil || len(back.Servers) != len(c.Servers) {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	})
}
