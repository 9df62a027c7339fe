package store

import (
	"fmt"
	"testing"

	"github.com/replkv/replkv/internal/command"
	"github.com/replkv/replkv/kv"
)

// TestEntryKeys: the ranges of an entry look at no more keys together than they may,
// whether they do anything or not, and the next entry begins anew.
func TestEntryKeys(t *testing.T) {
	l := newLeaseLog(t)
	l.do(1, &command.Op{Kind: command.Setting, ID: SettingEntryKeys, Number: 250})
	var ops []*command.Op
	for i := range 100 {
		ops = append(ops, &command.Op{Kind: command.Set, Key: fmt.Appendf(nil, "a/%03d", i)})
	}
	l.do(1, ops...)
	refused := &command.Op{Kind: command.DeleteRange, Key: []byte("a/"), To: []byte("a0"), MaxKeys: 99}
	look := &command.Op{Kind: command.Txn, Txn: &kv.Txn{Then: []kv.Op{{Kind: kv.OpGet, Range: kv.Prefix("a/"), CountOnly: true}}}}
	all := &command.Op{Kind: command.DeleteRange, Key: []byte("a/"), To: []byte("a0")}
	var got []command.OpStatus
	for _, r := range l.do(1, refused, look, look, all) {
		got = append(got, r.Status)
	}
	want := []command.OpStatus{command.TooLarge, command.OK, command.TooLarge, command.TooLarge}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r := l.want(command.OK, 1, all); r.Deleted != 100 {
		t.Errorf("in an entry of its own: %+v", r)
	}
}
