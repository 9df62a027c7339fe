package store

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

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares what is encoded now with what was once written, and so must
// be read for ever.
type golden struct{ strings.Builder }

func (g *golden) add(name string, b []byte) {
	fmt.Fprintf(g, "%s\n\t%s\n", name, hex.EncodeToString(b))
}

func (g *golden) check(t *testing.T, file string) {
	t.Helper()
	path := filepath.Join("testdata", file+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(g.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if g.String() != string(want) {
		t.Errorf("the format of %s has changed: got\n%swant\n%s", file, g.String(), want)
	}
}

func TestGoldenKeys(t *testing.T) {
	var g golden
	g.add("state", stateKey)
	g.add("config", configKey)
	g.add("setting 2", settingKey(2))
	g.add("session", sessionKey(goldenSession))
	g.add("result of seq 300", sessionResultKey(goldenSession, 300))
	g.add("index of revision 300, chunk 2", indexKey(300, 2))
	g.add("lease 77", leaseKey(77))
	g.add("hint of lease 77", hintKey(77, []byte("k\x00")))
	for _, key := range []string{"", "k", "k\x00", "k\x00\t", "\xff"} {
		bare := appendBare(nil, key)
		g.add(fmt.Sprintf("bound of %q", key), bare)
		if key == "" { // a bound only: no row has an empty key
			continue
		}
		k := appendVersion(bytes.Clone(bare), 300)
		g.add(fmt.Sprintf("%q at revision 300", key), k)
		if user, rev, err := splitData(k); err != nil || string(user) != key || rev != 300 {
			t.Errorf("%x came back as %q, %d, %v", k, user, rev, err)
		}
		if split(k) != len(bare) || split(bare) != len(bare) {
			t.Errorf("split of %x", k)
		}
	}
	g.add("end of data", dataEnd())
	for _, space := range []byte{spaceMeta, spaceSetting, spaceSession, spaceIndex, spaceLease, spaceHint, spaceData} {
		lower, upper := spaceBounds(space)
		g.add(fmt.Sprintf("bounds of space %#02x", space), append(lower, upper...))
	}
	g.check(t, "keys")
}

// goldenRows are rows with all combinations of flags.
func goldenRows() []row {
	var out []row
	for flags := range byte(rowFlags + 1) {
		r := row{sub: 300, value: []byte("value")}
		if r.tombstone = flags&rowTombstone != 0; r.tombstone {
			r.value = nil
		}
		if r.resolved = flags&rowResolved != 0; r.resolved {
			r.create, r.version = 200, 3
		}
		if flags&rowLease != 0 {
			r.lease = 1 << 40
		}
		out = append(out, r)
	}
	return append(out, row{}) // an empty value
}

func (r *row) encode() []byte { return append(r.appendHeader(nil), r.value...) }

func sameRow(a, b row) bool { return bytes.Equal(a.encode(), b.encode()) }

func TestGoldenDataRows(t *testing.T) {
	var g golden
	for _, r := range goldenRows() {
		b := r.encode()
		g.add(fmt.Sprintf("tombstone %v, resolved %v, lease %d", r.tombstone, r.resolved, r.lease), b)
		if back, err := decodeRow(b); err != nil || !sameRow(back, r) || len(r.appendHeader(nil)) > maxRowHeader {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	}
	g.check(t, "data")
}

var goldenSession = command.SessionID{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func goldenState() State {
	s := State{Index: 1 << 20, Term: 300, CommandTerm: 299, Revision: 1 << 33, Compacted: 128, TimeMillis: 1_700_000_000_000, ConfigIndex: 7}
	for i := range s.Chain {
		s.Chain[i] = byte(i)
	}
	return s
}

func TestGoldenRows(t *testing.T) {
	var g golden
	s := goldenState()
	g.add("state", s.append(nil))
	if back, err := decodeState(s.append(nil)); err != nil || back != s {
		t.Errorf("state came back as %+v, %v", back, err)
	}
	for _, s := range []session{{member: []byte("n1"), lowWater: 300, usedAt: 1_700_000_000_000, usedIndex: 1 << 20}, {}} {
		b := s.append(nil)
		g.add(fmt.Sprintf("session of %q", s.member), b)
		if back, err := decodeSession(b); err != nil || !bytes.Equal(back.append(nil), b) || string(back.member) != string(s.member) {
			t.Errorf("session came back as %+v, %v", back, err)
		}
	}
	for _, l := range []Lease{{Generation: 300, TTL: time.Minute, Remaining: 20 * time.Second, Hints: 2, HintBytes: 300}, {}} {
		g.add(fmt.Sprintf("lease of %v", l.TTL), l.append(nil))
		if back, err := decodeLease(l.append(nil)); err != nil || back != l {
			t.Errorf("lease came back as %+v, %v", back, err)
		}
	}
	var x indexBuilder
	x.reset(1_700_000_000_000)
	x.add(300, 0, Put, []byte("a"))
	x.add(301, 0, Remove, []byte("a\x00"))
	x.add(301, 1, Remove, []byte("b"))
	x.add(302, 0, Put, bytes.Repeat([]byte("k"), indexChunkBytes)) // begins a chunk of its own
	err := x.flush(func(k, v []byte) error {
		g.add(fmt.Sprintf("index row under %x, its first 40 bytes of %d", k, len(v)), v[:min(40, len(v))])
		_, err := decodeIndexRow(v, func(IndexedChange) {})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	g.check(t, "rows")
}

func goldenHeader() *streamHeader {
	h := &streamHeader{state: goldenState(), config: []byte("configuration"), format: uint64(formatVersion),
		files: []fileInfo{{"000004.sst", 1 << 20}, {"MANIFEST-000001", 300}, {"empty", 0}}}
	copy(h.cluster[:], "cluster-0123456789")
	return h
}

func TestGoldenStreamHeader(t *testing.T) {
	var g golden
	b := goldenHeader().append(nil)
	g.add("three files", b)
	back, err := readStreamHeader(bytes.NewReader(b))
	if err != nil || !bytes.Equal(back.append(nil), b) {
		t.Errorf("came back as %+v, %v", back, err)
	}
	g.check(t, "stream")
}

// TestGoldenStore applies a fixed log and compares every row that is in
// Pebble afterwards: layout, revisions and the hash of effects are the same on
// all members, of whatever version.
func TestGoldenStore(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	s.janitor.stop() // what is superseded stays
	k, l := []byte("k"), []byte("l\x00")
	session := encodeBatch(command.NoSession, 0, 0, &command.Op{Kind: command.OpenSession, Session: goldenSession, Member: []byte("n1"), Ordinal: 1, Since: 1, Starts: testStarts},
		&command.Op{Kind: command.Epoch, Member: []byte("n1")}, &command.Op{Kind: command.Setting, ID: SettingRangeKeys, Number: 50})
	entries := []Entry{
		{Index: 1, Term: 1, Kind: Configuration, Data: []byte("configuration"), Refs: []Ref{{ID: "n1", Voter: true}}},
		encodeEntry(2, session),
		encodeEntry(3, encodeBatch(goldenSession, 1, 0, &command.Op{Kind: command.Set, Key: k, Value: []byte("1")},
			&command.Op{Kind: command.Set, Key: k, Value: []byte("2"), Conditional: true, IfRevision: 2})),
		encodeEntry(4, encodeBatch(goldenSession, 3, 1, &command.Op{Kind: command.Set, Key: l, Conditional: true},
			&command.Op{Kind: command.Grant, Lease: 77, TTL: 1500},
			&command.Op{Kind: command.Set, Key: []byte("m"), Value: []byte("leased"), Lease: 77})),
		encodeEntry(5, encodeBatch(goldenSession, 2, 1, &command.Op{Kind: command.DeleteRange, Key: k, Open: true, ReturnPrev: true})),
		encodeEntry(6, encodeBatch(goldenSession, 4, 2, &command.Op{Kind: command.Set, Key: k, Value: []byte("again")},
			&command.Op{Kind: command.Compact, Revision: 3})),
		encodeEntry(7, encodeBatch(goldenSession, 5, 2, &command.Op{Kind: command.Grant, Lease: 78, TTL: 60_000},
			&command.Op{Kind: command.Set, Key: []byte("n"), Lease: 78}, &command.Op{Kind: command.Set, Key: []byte("o"), Lease: 78},
			&command.Op{Kind: command.Set, Key: l, Lease: 77}, &command.Op{Kind: command.Revoke, Lease: 77})),
		encodeEntry(8, encodeBatch(command.NoSession, 0, 0, &command.Op{Kind: command.Renew, Lease: 78, TTL: 30_000, Term: 1, Generation: 7})),
	}
	if _, err := s.Apply(entries); err != nil {
		t.Fatal(err)
	}
	var g golden
	e, err := s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer e.release()
	it, err := e.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		g.add(hex.EncodeToString(it.Key()), it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	sum, n, err := s.HashAt(s.State().Revision)
	if err != nil || n != 3 {
		t.Fatal(n, err)
	}
	g.add("hash of the newest revision", sum[:])
	g.check(t, "store")
}

// A newer version is told apart from damage.
func TestNewerVersions(t *testing.T) {
	st := goldenState()
	h := goldenHeader()
	h.format++
	body := func(b []byte) []byte { return b[12 : len(b)-4] }
	newer := func(b []byte) []byte { b = bytes.Clone(b); b[0]++; return b }
	index := binary.AppendUvarint([]byte{indexVersion}, 1)
	errs := map[string]error{}
	_, errs["data row"] = decodeRow([]byte{rowFlags + 1, 0})
	_, errs["state"] = decodeState(newer(st.append(nil)))
	_, errs["session"] = decodeSession(newer((&session{}).append(nil)))
	_, errs["lease"] = decodeLease(newer((&Lease{}).append(nil)))
	_, errs["index"] = decodeIndexRow(newer(index), nil)
	_, errs["change"] = decodeIndexRow(append(index, 2, 0, 3, 1, 'k'), func(IndexedChange) {})
	_, errs["stream"] = decodeStreamHeader(newer(body(goldenHeader().append(nil))))
	_, errs["engine"] = decodeStreamHeader(body(h.append(nil)))
	for name, err := range errs {
		if !errors.Is(err, kv.ErrFormatTooNew) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
