package main

import (
	"bytes"
	"testing"

	"github.com/replkv/replkv/bench/system"
)

// trace is as strace -f -y writes it: two sets. In the first, two members sync,
// one of them in a call that another thread's lines cut in two; in the second,
// one member syncs twice, one call fails, and one ends after the answer.
const trace = `10  fdatasync(7</tmp/replkv-bench-x-1/m0/log/1>) = 0
10  faccessat(AT_FDCWD</tmp>, "replkv-bench-mark:begin:0", F_OK) = -1 ENOENT (No such file or directory)
11  fdatasync(8</tmp/replkv-bench-x-1/m1/log/1> <unfinished ...>
10  fdatasync(7</tmp/replkv-bench-x-1/m0/log/1>) = 0
11  <... fdatasync resumed>)            = 0
10  faccessat(AT_FDCWD</tmp>, "replkv-bench-mark:end:0", F_OK <unfinished ...>
12  fsync(9</tmp/replkv-bench-x-1/m2>) = 0
10  <... faccessat resumed>)            = -1 ENOENT (No such file or directory)
10  faccessat(AT_FDCWD</tmp>, "replkv-bench-mark:begin:1", F_OK) = -1 ENOENT (No such file or directory)
10  fdatasync(7</tmp/replkv-bench-x-1/m0/log/1>) = 0
10  fsync(7</tmp/replkv-bench-x-1/m0>)  = 0
11  fdatasync(8</tmp/replkv-bench-x-1/m1/log/1>) = -1 EIO (Input/output error)
12  fdatasync(9</tmp/replkv-bench-x-1/m2/log/1> <unfinished ...>
10  faccessat(AT_FDCWD</tmp>, "replkv-bench-mark:end:1", F_OK) = -1 ENOENT (No such file or directory)
12  <... fdatasync resumed>)            = 0
`

func TestTrace(t *testing.T) {
	sets := readTrace(bytes.Lines([]byte(trace)))
	if len(sets) != 2 {
		t.Fatalf("%d sets", len(sets))
	}
	for i, want := range []struct{ syncs, members int }{{2, 2}, {2, 1}} {
		if got := sets[i]; got.syncs != want.syncs || len(got.members) != want.members {
			t.Errorf("set %d: %+v, want %+v", i, got, want)
		}
	}
	check := system.SyncCheck{Sets: 2, Majority: 2}
	if _, err := judgeSyncs(check, sets); err == nil {
		t.Error("a set that one member synced passes")
	}
	check.Sets = 1
	if _, err := judgeSyncs(check, sets); err == nil {
		t.Error("a trace that shows more sets than there were passes")
	}
	if _, err := judgeSyncs(check, sets[:1]); err != nil {
		t.Error(err)
	}
}

func TestJudgeLinear(t *testing.T) {
	good := system.LinearCheck{Writes: 1000, Reads: []int64{500, 500, 500}}
	if _, err := judgeLinear(good); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]system.LinearCheck{
		"stale":      {Writes: 1000, Reads: []int64{500, 500, 500}, Stale: 1},
		"not spread": {Writes: 1000, Reads: []int64{500, 0, 500}},
		"no writes":  {Reads: []int64{500}},
		"no members": {Writes: 1000},
	} {
		if _, err := judgeLinear(bad); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
