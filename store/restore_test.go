package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
)

// TestFound: a founding ends what was between the old members and their clients, keeps
// the data, and does the same to equal states.
func TestFound(t *testing.T) {
	l := newLeaseLog(t)
	l.want(command.OK, 1, &command.Op{Kind: command.Grant, Lease: 7, TTL: 60_000})
	l.want(command.OK, 1, &command.Op{Kind: command.Set, Key: []byte("k"), Value: []byte("v"), Lease: 7})
	l.index++
	if _, err := l.s.Apply([]Entry{{Index: l.index, Term: 1, Kind: Configuration, Data: []byte("old"), Refs: []Ref{{"a", true}, {"b", true}}}}); err != nil {
		t.Fatal(err)
	}
	before := l.s.State()
	item, err := l.s.Get("k", 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.s.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var stream bytes.Buffer
	if _, err := stream.ReadFrom(c.Reader([16]byte{1})); err != nil {
		t.Fatal(err)
	}
	if info, err := ReadStream(bytes.NewReader(stream.Bytes())); err != nil || info.State != before || info.Bytes != int64(stream.Len()) || info.Cluster != [16]byte{1} {
		t.Errorf("ReadStream: %+v, %v", info, err)
	}
	var chains [2][32]byte
	for i := range chains {
		s, info, err := Restore("new", Options{FS: disk.NewMem()}, bytes.NewReader(stream.Bytes()))
		if err != nil || info.State != before {
			t.Fatalf("Restore: %+v, %v", info, err)
		}
		defer s.Close()
		if err := s.Found([]byte("config"), []Ref{{"x", true}}); err != nil {
			t.Fatal(err)
		}
		st := s.State()
		chains[i] = st.Chain
		if st.Index != before.Index+1 || st.Term != before.Term+1 || st.ConfigIndex != st.Index || st.Revision <= before.Revision+1e9 || st.Compacted != st.Revision {
			t.Errorf("the state is %+v, it was %+v", st, before)
		}
		if n := len(s.apply.applier.sessions); n > 0 {
			t.Errorf("%d sessions are left", n)
		}
		for _, id := range []string{"a", "b"} {
			if _, known := s.Member(id); known {
				t.Errorf("member %s of the old cluster is known", id)
			}
		}
		if m, known := s.Member("x"); !known || m.Added != st.Index {
			t.Errorf("the new member: %+v, %v", m, known)
		}
		if got, err := s.Get("k", 0); err != nil || string(got.Value) != "v" || got.ModRevision != item.ModRevision || got.Lease != 7 {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := s.Get("k", before.Revision); !errors.Is(err, kv.ErrCompacted) {
			t.Errorf("at a revision of the old cluster: %v", err)
		}
		if config, at := s.Config(); string(config) != "config" || at != st.Index {
			t.Errorf("configuration %q of %d", config, at)
		}
	}
	if chains[0] != chains[1] {
		t.Error("equal states have different successors")
	}
}
