package logtest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Entry is the entry that the suite stores at index in term: its content
// follows from both.
func Entry(index, term uint64) *raft.Log {
	return &raft.Log{
		Index:      index,
		Term:       term,
		Type:       raft.LogCommand,
		Data:       fmt.Appendf(nil, "data of %d in term %d %s", index, term, bytes.Repeat([]byte{'x'}, int(index%97))),
		AppendedAt: time.Unix(1_700_000_000, int64(index)).UTC(),
	}
}

// Entries are those from first to last.
func Entries(first, last, term uint64) []*raft.Log {
	var entries []*raft.Log
	for index := first; index <= last; index++ {
		entries = append(entries, Entry(index, term))
	}
	return entries
}

// Same says how got differs from want. nil and empty bytes are equal.
func Same(got, want *raft.Log) error {
	if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type ||
		!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) ||
		!got.AppendedAt.Equal(want.AppendedAt) {
		return fmt.Errorf("entry is %+v, want %+v", got, want)
	}
	return nil
}
