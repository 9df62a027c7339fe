package raftlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/kv"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenRows are all kinds of rows: what has once been written must be read for ever.
func goldenRows() map[string][2][]byte {
	entry := func(l *raft.Log, offset int64) [2][]byte {
		key := entryKey(l.Index)
		row := appendEntry(nil, l)
		sealEntry(key, row, offset)
		return [2][]byte{key, row}
	}
	stable := func(key, value string) [2][]byte {
		rowKey := stableKey([]byte(key))
		return [2][]byte{rowKey, encodeStable(rowKey, []byte(value))}
	}
	return map[string][2][]byte{
		"format":       {formatKey, encodeFormat(formatVersion)},
		"entry":        entry(goldenEntry(), 4711),
		"entry_noop":   entry(&raft.Log{Index: 1, Term: 1, Type: raft.LogNoop}, 0),
		"stable":       stable("LastVoteCand", "node-1"),
		"stable_empty": stable("k", ""),
	}
}

func goldenEntry() *raft.Log {
	return &raft.Log{Index: 258, Term: 3, Type: raft.LogConfiguration, Data: []byte("data"),
		Extensions: []byte("ext"), AppendedAt: time.Unix(1_700_000_000, 123_456_789).UTC()}
}

func TestGolden(t *testing.T) {
	for name, row := range goldenRows() {
		got := fmt.Sprintf("key   %s\nvalue %s\n", hex.EncodeToString(row[0]), hex.EncodeToString(row[1]))
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is encoded as\n%swant\n%s", name, got, want)
		}
	}
}

func TestDecodeEntry(t *testing.T) {
	row := goldenRows()["entry"]
	if err := checkEntry(row[0], row[1]); err != nil {
		t.Fatal(err)
	}
	index, err := decodeEntryKey(row[0])
	if err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	decodeEntry(index, row[1], &got)
	if want := goldenEntry(); fmt.Sprint(got) != fmt.Sprint(*want) {
		t.Fatalf("got %v, want %v", got, *want)
	}
	if offset := entryOffset(row[1]); offset != 4711 {
		t.Fatalf("offset %d", offset)
	}
}

// TestFlippedBits: no single flipped bit, in key or value, goes unnoticed.
func TestFlippedBits(t *testing.T) {
	check := map[byte]func(key, row []byte) error{
		spaceFormat: func(_, row []byte) error { return checkFormat(row) },
		spaceEntry:  checkEntry,
		spaceStable: func(key, row []byte) error { _, err := decodeStable(key, row); return err },
	}
	for name, kv := range goldenRows() {
		for part := range kv {
			if kv[0][0] == spaceFormat && part == 0 {
				continue
			}
			for bit := range 8 * len(kv[part]) {
				damaged := [2][]byte{bytes.Clone(kv[0]), bytes.Clone(kv[1])}
				damaged[part][bit/8] ^= 1 << (bit % 8)
				if check[kv[0][0]](damaged[0], damaged[1]) == nil {
					t.Fatalf("%s: bit %d of part %d flipped: not noticed", name, bit, part)
				}
			}
		}
	}
}

func TestFormatVersion(t *testing.T) {
	if err := checkFormat(encodeFormat(formatVersion + 1)); !errors.Is(err, kv.ErrFormatTooNew) {
		t.Errorf("newer: %v", err)
	}
	longer := encodeFormat(formatVersion + 1)
	longer = sealed(formatKey, append(longer[:len(longer)-crcBytes], "what a later version adds"...))
	if err := checkFormat(longer); !errors.Is(err, kv.ErrFormatTooNew) {
		t.Errorf("newer and longer: %v", err)
	}
	for _, bad := range [][]byte{nil, {1}, encodeFormat(0), []byte("something else altogether")} {
		if err := checkFormat(bad); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzDecode: bad bytes are an error, never a panic; what passes the check
// decodes and encodes to the same row.
func FuzzDecode(f *testing.F) {
	for _, row := range goldenRows() {
		f.Add(row[0], row[1], false)
		f.Add(row[0], row[1][:len(row[1])-crcBytes], true)
	}
	f.Fuzz(func(t *testing.T, key, row []byte, seal bool) {
		if seal { // lets the fuzzer past the checksum
			row = sealed(key, bytes.Clone(row))
		}
		_ = checkFormat(row)
		_, _ = decodeStable(key, row)
		index, err := decodeEntryKey(key)
		if checkEntry(key, row) != nil || err != nil {
			return
		}
		var l raft.Log
		decodeEntry(index, row, &l)
		again := appendEntry(nil, &l)
		sealEntry(key, again, entryOffset(row))
		if l.AppendedAt.Nanosecond() == int(uint32(row[26])<<24|uint32(row[27])<<16|uint32(row[28])<<8|uint32(row[29])) &&
			!bytes.Equal(again, row) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", row, l, again)
		}
	})
}
