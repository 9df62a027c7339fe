package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/store/disk"
)

// goodStream is a checkpoint of a store with a little of everything, in parts: the
// header's body, and the files.
func goodStream(f *testing.F) (header []byte, files [][]byte) {
	s, err := Open("state", Options{FS: vfs.NewMem(), MemTableBytes: 64 << 10, CacheBytes: 512 << 10})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Apply(fuzzEntries(nil)); err != nil {
		f.Fatal(err)
	}
	c, err := s.Checkpoint()
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	for _, info := range c.files {
		b, err := disk.ReadFile(s.opts.FS, s.opts.FS.PathJoin(c.dir, info.name), 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		files = append(files, b)
	}
	b := c.header([16]byte{1}).append(nil)
	return b[12 : len(b)-4], files
}

// sealStream makes a stream whose checksums are right. If the header decodes and has as
// many files, their sizes are made those of the contents.
func sealStream(header []byte, files [][]byte) []byte {
	if h, err := decodeStreamHeader(header); err == nil && len(h.files) == len(files) {
		for i := range h.files {
			h.files[i].size = int64(len(files[i]))
		}
		b := h.append(nil)
		header = b[12 : len(b)-4]
	}
	out := binary.LittleEndian.AppendUint32([]byte(streamMagic), uint32(len(header)))
	out = append(out, header...)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	for _, b := range files {
		out = append(out, b...)
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(b, castagnoli))
	}
	return append(out, streamTrailer...)
}

// checkLeft closes a store, and fails if anything is in its directory then but CURRENT
// and the live engine; the engine of before has closed then, too.
func checkLeft(t *testing.T, s *Store, before *engine) {
	t.Helper()
	live := s.opts.FS.PathBase(s.eng.Load().dir)
	if err := s.Close(); err != nil {
		checkError(t, err)
	}
	<-before.closed // who looks at its depth may still do so
	names, err := s.opts.FS.List(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n != currentName && n != live {
			t.Errorf("%s is left", n)
		}
	}
}

// streamError: the bytes are at fault, and the error says so.
func streamError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		checkError(t, err)
	}
}

// FuzzReceive: a stream of hostile bytes is refused, and nothing of it stays; or the
// state, received, installed or restored, is the one that its header tells of. The
// fuzzer changes a header, and one of a good checkpoint's files, behind good checksums;
// and puts a patch over the whole, checksums and end included.
func FuzzReceive(f *testing.F) {
	header, files := goodStream(f)
	for i, b := range files {
		f.Add(header, uint8(i), b, []byte(nil), uint16(0))
		if len(b) > 0 {
			f.Add(header, uint8(i), b[:len(b)-1], []byte(nil), uint16(0))
		}
	}
	whole := sealStream(header, files)
	f.Add(header, uint8(0), files[0], []byte("x"), uint16(len(whole)))   // goes on behind its end
	f.Add(header, uint8(0), files[0], []byte("x"), uint16(len(whole)-1)) // the trailer is another
	f.Add(header, uint8(0), files[0], []byte{1}, uint16(12+len(header)))
	if h, err := decodeStreamHeader(header); err == nil {
		h.config = []byte("another")
		b := h.append(nil)
		f.Add(b[12:len(b)-4], uint8(0), files[0], []byte(nil), uint16(0))
	}
	f.Fuzz(func(t *testing.T, header []byte, file uint8, contents, patch []byte, at uint16) {
		if len(header)+len(contents)+len(patch) > 64<<10 {
			return // more of the same
		}
		changed := slices.Clone(files)
		changed[int(file)%len(files)] = contents
		in := sealStream(header, changed)
		if n := min(int(at), len(in)); len(patch) > 0 { // over what is there
			in = append(in[:n:n], append(slices.Clone(patch), in[min(n+len(patch), len(in)):]...)...)
		}
		info, readErr := ReadStream(bytes.NewReader(in))
		if readErr != nil {
			streamError(t, readErr)
		} else if info.Bytes != int64(len(in)) {
			t.Fatalf("%d bytes, it says %d", len(in), info.Bytes)
		}
		receiveFuzzed(t, in, readErr)
		restoreFuzzed(t, in, readErr)
	})
}

func receiveFuzzed(t *testing.T, b []byte, readErr error) {
	t.Helper()
	s, err := openFuzz(t, vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply([]Entry{openSessionEntry(1)}); err != nil { // something that must stay
		t.Fatal(err)
	}
	before, old := s.State(), s.eng.Load()
	in, err := s.Receive(bytes.NewReader(b))
	if err != nil {
		streamError(t, err)
		if readErr == nil {
			t.Fatalf("ReadStream takes what Receive refuses: %v", err)
		}
	} else if err = s.Install(in); err != nil {
		checkError(t, err)
	}
	if err == nil && in.State.Index > before.Index {
		isHeaders(t, s, in.StreamInfo)
	} else if s.State() != before {
		t.Fatalf("%v, and the state is %+v", err, s.State())
	}
	checkLeft(t, s, old)
}

func restoreFuzzed(t *testing.T, b []byte, readErr error) {
	t.Helper()
	s, info, err := Restore("state", Options{FS: vfs.NewMem(), MemTableBytes: 64 << 10, CacheBytes: 512 << 10}, bytes.NewReader(b))
	if err != nil {
		streamError(t, err)
		return
	}
	defer s.Close()
	if readErr != nil {
		t.Fatalf("Restore takes what ReadStream refuses: %v", readErr)
	}
	isHeaders(t, s, info)
	checkLeft(t, s, s.eng.Load())
}

// isHeaders checks a state against the header that it came with, and that it can be used.
func isHeaders(t *testing.T, s *Store, h StreamInfo) {
	t.Helper()
	st := s.State()
	if config, at := s.Config(); st != h.State || at != h.State.ConfigIndex || !bytes.Equal(config, h.Config) {
		t.Fatalf("it is at %+v with configuration %x of %d, the header said %+v", st, config, at, h)
	}
	if st.Revision >= st.Compacted { // what lies in the tables is checked when it is read
		if _, _, err := s.HashAt(0); err != nil {
			checkError(t, err)
		}
	}
	e := encodeEntry(st.Index+1, encodeBatch(command.NoSession, 0, 0, &command.Op{Kind: command.Compact, Revision: 2}))
	e.Term = st.Term
	if _, err := s.Apply([]Entry{e}); err != nil {
		checkError(t, err)
	}
}

// FuzzCurrent: whatever CURRENT says, it names the directory with the data, or the store
// is refused, and nothing is swept away then.
func FuzzCurrent(f *testing.F) {
	for _, s := range []string{"db-000001\n", "db-000001", "db-000002\n", "db-000003\n", "", "db-\n", "db-000001/../db-000001", "tmp-1\n", strings.Repeat("db-", 100)} {
		f.Add([]byte(s))
	}
	const file = "db-000003" // is none
	f.Fuzz(func(t *testing.T, in []byte) {
		mem := vfs.NewMem() // with the race detector it alters what it was given to write
		s, err := openFuzz(t, mem)
		if err == nil {
			_, err = s.Apply([]Entry{openSessionEntry(1)})
		}
		if err = errors.Join(err, s.Close(), mem.MkdirAll("state/db-000002", 0o755), disk.WriteFile(mem, "state/"+file, nil),
			disk.WriteFile(mem, "state/"+currentName, slices.Clone(in))); err != nil {
			t.Fatal(err)
		}
		list := func() []string {
			names, err := mem.List("state")
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(names)
			return names
		}
		before := list()
		s, err = openFuzz(t, mem)
		if err != nil {
			checkError(t, err)
			if after := list(); !slices.Equal(after, before) {
				t.Fatalf("%v, and of %q there is %q", err, before, after)
			}
			return
		}
		if strings.TrimSuffix(string(in), "\n") != "db-000001" || s.State().Index != 1 {
			t.Fatalf("opened with %q, at %+v", in, s.State())
		}
		checkLeft(t, s, s.eng.Load())
	})
}
