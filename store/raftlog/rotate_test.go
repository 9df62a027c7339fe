package raftlog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/replkv/replkv/store/disk"
	"github.com/replkv/replkv/store/disk/faultfs"
	"github.com/replkv/replkv/store/raftlog"
)

// TestFullDiskAtRotation: Pebble would end the process where it cannot
// begin a new write-ahead log; the log fails, and keeps what was acknowledged.
func TestFullDiskAtRotation(t *testing.T) {
	mem := disk.NewMem()
	fs := faultfs.New(mem)
	fatal := make(chan error, 10)
	l := open(t, "log", raftlog.Options{FS: fs, OnFatal: func(err error) { fatal <- err }})
	full := faultfs.Of(faultfs.Create|faultfs.Reuse, ".log")
	fs.SetFault(faultfs.Fail(syscall.ENOSPC, full))
	var acked uint64
	var err error
	for err == nil {
		if acked > 1000 {
			t.Fatal("the write-ahead log is never rotated")
		}
		if err = l.StoreLog(&raft.Log{Index: acked + 1, Term: 1, Data: make([]byte, 64<<10)}); err == nil {
			acked++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("StoreLog = %v", err)
	}
	if err := <-fatal; !errors.Is(err, syscall.ENOSPC) || len(fatal) > 0 {
		t.Errorf("OnFatal(%v), and %d more", err, len(fatal))
	}
	if again := l.SetUint64([]byte("k"), 1); !errors.Is(again, syscall.ENOSPC) {
		t.Errorf("SetUint64 = %v", again)
	}
	if err := l.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close = %v", err)
	}
	l.ReleaseParked()
	after := open(t, "log", raftlog.Options{FS: disk.Crash(mem, 1)})
	if last, _ := after.LastIndex(); last < acked || acked == 0 {
		t.Errorf("the log ends at %d, acknowledged %d", last, acked)
	}
}
