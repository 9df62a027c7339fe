package store

import (
	"bytes"
	"slices"
	"testing"
)

// legal builds a key as this package does: a prefix that ends in 0x00 and,
// unless rev is 0, a version.
func legal(prefix []byte, rev uint64) []byte {
	k := append(append([]byte{}, prefix...), bareEnd)
	if rev > 0 {
		k = appendVersion(k, rev)
	}
	return k
}

func isLegal(k []byte) bool {
	n := len(k)
	return n > 0 && k[n-1] == bareEnd || n > suffixLen && k[n-1] == suffixLen && k[n-suffixLen-1] == bareEnd
}

func sign(n int) int { return min(1, max(-1, n)) }

// checkPair checks what Pebble's Comparer asks of two keys.
func checkPair(t *testing.T, a, b []byte) {
	t.Helper()
	as, bs := split(a), split(b)
	ap, bp, asuf, bsuf := a[:as], b[:bs], a[as:], b[bs:]
	c := compare(a, b)
	want := bytes.Compare(ap, bp)
	if want == 0 {
		want = comparer.ComparePointSuffixes(asuf, bsuf)
		if want != comparer.CompareRangeSuffixes(asuf, bsuf) || want != compare(asuf, bsuf) {
			t.Fatalf("suffixes %x and %x", asuf, bsuf)
		}
	}
	if c != want || c != -compare(b, a) || (c == 0) != comparer.Equal(a, b) {
		t.Fatalf("compare(%x, %x) = %d, want %d", a, b, c, want)
	}
	if pc := compare(ap, bp); c <= 0 && pc > 0 || pc < 0 && c >= 0 {
		t.Fatalf("%x and %x: prefixes compare as %d, keys as %d", a, b, pc, c)
	}
	if aa, ba := abbreviate(a), abbreviate(b); aa < ba && c >= 0 || aa > ba && c <= 0 {
		t.Fatalf("abbreviations of %x and %x", a, b)
	}
	if c < 0 {
		checkSeparator(t, a, b)
	}
	if compare(ap, bp) < 0 {
		if next := comparer.ImmediateSuccessor(nil, ap); compare(next, bp) > 0 {
			t.Fatalf("%x lies between %x and its immediate successor %x", bp, ap, next)
		}
	}
}

func checkSeparator(t *testing.T, a, b []byte) {
	t.Helper()
	dst := []byte("dst")
	k, ok := bytes.CutPrefix(separator(dst, a, b), dst)
	if !ok || compare(a, k) > 0 || compare(k, b) >= 0 || !isLegal(k) || len(k) > len(a)+1 {
		t.Fatalf("separator of %x and %x is %x", a, b, k)
	}
}

// checkKey checks what is asked of one key.
func checkKey(t *testing.T, k []byte) {
	t.Helper()
	dst := []byte("dst")
	p := k[:split(k)]
	if split(p) != len(p) || len(p) < len(k) && compare(p, k) >= 0 {
		t.Fatalf("%x is split into a prefix %x", k, p)
	}
	s, ok := bytes.CutPrefix(successor(dst, k), dst)
	if !ok || compare(k, s) > 0 || !isLegal(s) {
		t.Fatalf("successor of %x is %x", k, s)
	}
	next, ok := bytes.CutPrefix(comparer.ImmediateSuccessor(dst, p), dst)
	if !ok || split(next) != len(next) || compare(p, next) >= 0 || !isLegal(next) {
		t.Fatalf("immediate successor of %x is %x", p, next)
	}
}

// TestComparer does what Pebble's own CheckComparer, which is internal, does
// with lists of prefixes and suffixes, and more.
func TestComparer(t *testing.T) {
	suffixes := []uint64{0, 1, 2, 9, 1<<63 - 1}
	var prefixes [][]byte
	for _, key := range append([]string{"", "k\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\t", "\t\t\t\t\t\t\t\t\t\t", "\xff\xfe"}, keysPool...) {
		p := append([]byte{spaceData}, key...)
		for j := range p { // removing leading bytes must yield prefixes
			prefixes = append(prefixes, p[j:])
		}
	}
	var keys [][]byte
	for _, p := range prefixes {
		for _, rev := range suffixes {
			k := legal(p, rev)
			if split(k) != len(p)+1 {
				t.Fatalf("split(%x) = %d", k, split(k))
			}
			keys = append(keys, k)
		}
	}
	keys = append(keys, stateKey, configKey, settingKey(9), sessionKey(goldenSession), sessionResultKey(goldenSession, 9), indexKey(9, 9))
	for _, a := range keys {
		checkKey(t, a)
		for _, b := range keys {
			checkPair(t, a, b)
		}
	}
	slices.SortFunc(keys, compare)
	if !slices.IsSortedFunc(keys, compare) {
		t.Error("compare is inconsistent")
	}
	successor(nil, nil) // Pebble may pass an empty slice
}

func FuzzComparer(f *testing.F) {
	f.Add([]byte("\x10a"), []byte("\x10a\x00"), []byte("\x10b"), uint64(1), uint64(2), uint64(0))
	f.Add([]byte("\x10a\x00\xff\xff\xff\xff\xff\xff\xff\xfe\x09"), []byte("\x10a"), []byte("\x10a"), uint64(0), uint64(1), uint64(2))
	f.Add([]byte("\xff\xff"), []byte("\xff\xff\x00"), []byte{}, uint64(0), uint64(9), uint64(9))
	f.Fuzz(func(t *testing.T, p1, p2, p3 []byte, r1, r2, r3 uint64) {
		a, b, c := legal(p1, r1), legal(p2, r2), legal(p3, r3)
		for _, k := range [][]byte{a, b, c} {
			checkKey(t, k)
		}
		checkPair(t, a, b)
		checkPair(t, b, c)
		checkPair(t, a, c)
		checkPair(t, a, legal(p1, r2))
		if compare(a, b) <= 0 && compare(b, c) <= 0 && compare(a, c) > 0 {
			t.Fatalf("%x <= %x <= %x, but not the first and last", a, b, c)
		}
		checkFragments(t, p1, p2)
	})
}

// checkFragments: Pebble may pass what is no key of ours.
func checkFragments(t *testing.T, a, b []byte) {
	t.Helper()
	if n := split(a); n < 0 || n > len(a) {
		t.Fatalf("split(%x) = %d", a, n)
	}
	if c := compare(a, b); sign(c) != c || c != -compare(b, a) || (c == 0) != bytes.Equal(a, b) {
		t.Fatalf("compare(%x, %x) = %d", a, b, c)
	}
	if s := successor(nil, a); len(a) > 0 && compare(a, s) > 0 {
		t.Fatalf("successor of %x is %x", a, s)
	}
	if len(a) == 0 || len(b) == 0 || compare(a, b) >= 0 {
		return
	}
	if k := separator(nil, a, b); compare(a, k) > 0 || compare(k, b) >= 0 {
		t.Fatalf("separator of %x and %x is %x", a, b, k)
	}
}
