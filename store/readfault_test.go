package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
)

// TestApplyReadFails: a disk that fails any one read of an entry's apply fails apply, or
// does not change what it does. Else the member would differ from the others, and nobody
// would know.
func TestApplyReadFails(t *testing.T) {
	mem := disk.NewMem()
	l := newLeaseLogOn(t, mem)
	const lease = 7
	l.want(command.OK, 1, &command.Op{Kind: command.Grant, Lease: lease, TTL: 60_000})
	for round := range 3 { // several tables, and older versions
		for i := range 60 {
			op := &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "k%02d", i), Value: fmt.Appendf(nil, "%0500d", i+round)}
			if i%10 == round {
				op.Lease = lease
			}
			l.want(command.OK, 1, op)
		}
		if _, err := l.s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	index, seq := l.index, l.seq
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}

	failed := 0
	set := func(key string) kv.Op { return kv.SetOp(key, []byte("new")) }
	txn := func(tx kv.Txn) *command.Op { return &command.Op{Kind: command.Txn, Txn: &tx} }
	between := kv.Between("k1", "k2")
	for name, ops := range map[string][]*command.Op{
		"conditional Set":     {{Kind: command.Set, Key: []byte("k10"), Conditional: true, IfRevision: 1}},
		"Delete":              {{Kind: command.Delete, Key: []byte("k12"), ReturnPrev: true}, {Kind: command.Delete, Key: []byte("absent")}},
		"DeleteRange":         {{Kind: command.DeleteRange, Key: []byte("k1"), To: []byte("k3"), ReturnPrev: true}},
		"DeleteRange, bound":  {{Kind: command.DeleteRange, Key: []byte("k1"), To: []byte("k3"), MaxKeys: 5}},
		"DeleteRange, behind": {{Kind: command.Set, Key: []byte("k15")}, {Kind: command.Set, Key: []byte("k2")}, {Kind: command.DeleteRange, Key: []byte("k1"), To: []byte("k3"), MaxKeys: 12}},
		"Revoke":              {{Kind: command.Revoke, Lease: lease}},
		"Txn that reads some": {txn(kv.Txn{Then: []kv.Op{set("z1"), set("z2"), set("z3"), kv.Op{Kind: kv.OpGet, Range: kv.From("k5"), Limit: 2}}})},
		"Txn that reads":      {txn(kv.Txn{Then: []kv.Op{set("z"), kv.GetOp(between), kv.DeleteOp(between), kv.GetOp(kv.All())}})},
		"Txn that compares": {txn(kv.Txn{If: []kv.Compare{{Range: between, Target: kv.TargetVersion, Is: kv.Greater, Number: 0},
			{Range: kv.Key("k20"), Target: kv.TargetValue, Is: kv.Equal, Value: []byte("x")}}, Then: []kv.Op{set("a")}, Else: []kv.Op{set("b")}})},
		"Txn, unchanged": {txn(kv.Txn{If: []kv.Compare{{Range: between, Target: kv.TargetUnchanged, Is: kv.Equal, Number: 150}, {Range: kv.Key("k2"), Target: kv.TargetUnchanged, Is: kv.Equal, Number: 150}},
			Then: []kv.Op{set("a")}, Else: []kv.Op{set("b")}})},
	} {
		t.Run(name, func(t *testing.T) {
			entry := encodeEntry(index+1, encodeBatch(testSession, seq+1, seq, ops...))
			// run applies it with a disk whose k-th read fails.
			run := func(k int64) (reads int64, res []Result, st State, err error) {
				fs := faultfs.New(disk.Crash(mem, 1))
				s, err := Open("state", Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 128 << 10})
				if err != nil {
					t.Fatal(err)
				}
				s.janitor.stop()
				s.janitor.quit = make(chan struct{})
				var n atomic.Int64
				fs.SetFault(func(o faultfs.Op) error {
					if o.Is(faultfs.Read, ".sst") && n.Add(1) == k {
						return syscall.EIO
					}
					return nil
				})
				res, err = s.Apply([]Entry{entry})
				fs.SetFault(nil)
				st = s.State()
				if cerr := s.Close(); cerr != nil && err == nil {
					t.Error(cerr)
				}
				return n.Load(), res, st, err
			}
			reads, want, state, err := run(0)
			if err != nil {
				t.Fatal(err)
			}
			for k := int64(1); k <= reads; k++ {
				_, got, st, err := run(k)
				switch {
				case err != nil:
					failed++
					if !errors.Is(err, syscall.EIO) || st.Index != index {
						t.Errorf("read %d of %d fails: %v, applied %d", k, reads, err, st.Index)
					}
				case st != state || !equalResults(got, want):
					t.Errorf("read %d of %d fails, and apply does something else, without an error", k, reads)
				}
			}
		})
	}
	t.Logf("%d failed", failed)
	if failed < 10 { // what Pebble has read by itself before is not read again
		t.Errorf("apply failed %d times only", failed)
	}
}

func equalResults(a, b []Result) bool {
	text := func(r []Result) string {
		var s strings.Builder
		for _, x := range r {
			for _, batch := range x.Batches {
				s.Write(command.AppendResult(nil, batch))
			}
		}
		return s.String()
	}
	return slices.Equal([]byte(text(a)), []byte(text(b)))
}
