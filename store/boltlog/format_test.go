package boltlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/replkv/replkv/kv"
)

var update = flag.Bool("update", false, "write the golden file")

func goldenEntries() []*raft.Log {
	return []*raft.Log{
		{Index: 257, Term: 3, Type: raft.LogNoop},
		{Index: 258, Term: 3, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"),
			AppendedAt: time.Unix(1_700_000_000, 123_456_789).In(time.FixedZone("", 3600))},
	}
}

// rows are all rows of a file, a line each.
func rows(t *testing.T, dir string) string {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out strings.Builder
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&out, "%s %s %s\n", name, hex.EncodeToString(k), hex.EncodeToString(v))
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestGolden: what has once been written must be read for ever. The golden
// rows are raft-boltdb's encoding, too.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(l.StoreLogs(goldenEntries()), l.SetUint64([]byte("CurrentTerm"), 7),
		l.Set([]byte("LastVoteCand"), []byte("node-1")), l.Set([]byte("k"), nil), l.Close())
	if err != nil {
		t.Fatal(err)
	}
	got := rows(t, dir)
	const path = "testdata/rows.golden"
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
		t.Fatalf("rows are\n%swant\n%s", got, want)
	}
}

func TestCheckFormat(t *testing.T) {
	for name, c := range map[string]struct {
		row  []byte
		want error
	}{
		"known":     {encodeFormat(formatVersion), nil},
		"too new":   {encodeFormat(formatVersion + 1), kv.ErrFormatTooNew},
		"newer":     {sealed(formatKey, append(binary.BigEndian.AppendUint16(formatMagic[:], 9), "more"...)), kv.ErrFormatTooNew},
		"zero":      {encodeFormat(0), kv.ErrCorrupt},
		"magic":     {sealed(formatKey, []byte("RKVRLOG\x00\x00\x01")), kv.ErrCorrupt},
		"other key": {sealed([]byte("x"), binary.BigEndian.AppendUint16(formatMagic[:], 1)), kv.ErrCorrupt},
		"short":     {[]byte("abc"), kv.ErrCorrupt},
		"empty":     {nil, kv.ErrCorrupt},
	} {
		if err := checkFormat(c.row); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzUnseal: hostile rows are refused, or are what sealing makes. They are given as they
// are, and with good checksums.
func FuzzUnseal(f *testing.F) {
	f.Add([]byte("k"), sealed([]byte("k"), []byte("value")), uint64(1), uint64(0))
	f.Add([]byte("k"), formatMagic[:], uint64(1), uint64(2))
	f.Add(formatKey, encodeFormat(formatVersion), uint64(2), uint64(3))
	for _, version := range []uint16{0, formatVersion, formatVersion + 1} {
		row := encodeFormat(version)
		f.Add([]byte{}, row[:len(row)-crcBytes], uint64(2), uint64(3))
	}
	f.Add([]byte{}, sealEntry(goldenEntries()[1], 5).Extensions, uint64(258), uint64(258))
	f.Fuzz(func(t *testing.T, key, row []byte, index, stored uint64) {
		for _, row := range [][]byte{row, sealed(key, row)} {
			value, err := unsealed(key, row)
			switch {
			case err != nil && !errors.Is(err, kv.ErrCorrupt):
				t.Error(err)
			case err == nil && string(sealed(key, value)) != string(row):
				t.Errorf("row %x", row)
			}
		}
		for _, format := range [][]byte{row, sealed(formatKey, row), encodeFormat(uint16(index))} {
			err := checkFormat(format)
			if err != nil && !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrFormatTooNew) {
				t.Error(err)
			}
			if err == nil && !bytes.HasPrefix(format, encodeFormat(formatVersion)[:len(formatMagic)+2]) {
				t.Errorf("format row %x", format)
			}
		}
		entry := raft.Log{Index: stored, Term: index, Type: raft.LogType(len(key)), Data: key, Extensions: row, AppendedAt: time.Unix(int64(stored), int64(index%1e9))}
		for _, entry := range []*raft.Log{&entry, sealEntry(&entry, int64(index^stored))} {
			was := string(entry.Extensions)
			offset, err := unsealEntry(index, entry)
			switch {
			case err != nil && !errors.Is(err, kv.ErrCorrupt):
				t.Error(err)
			case err == nil && (entry.Index != index || string(sealEntry(entry, offset).Extensions) != was):
				t.Errorf("entry with %x", row)
			}
		}
	})
}
