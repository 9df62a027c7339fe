package system

import (
	"errors"
	"testing"
	"time"

	"github.com/replkv/replkv/bench/load"
)

func TestLinear(t *testing.T) {
	for _, behind := range []bool{false, true} {
		f := newFake()
		f.behind = behind
		var got LinearCheck
		err := linear(f, 100*time.Millisecond, func(v any) error {
			got = v.(LinearCheck)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if (got.Stale > 0) != behind || (got.Example != "") != behind {
			t.Errorf("followers behind: %v, but %d stale reads, such as %q", behind, got.Stale, got.Example)
		}
		if got.Writes == 0 || len(got.Reads) != 3 || got.Reads[0] == 0 || got.Reads[1] == 0 || got.Reads[2] == 0 {
			t.Errorf("%+v", got)
		}
	}
}

func TestSyncs(t *testing.T) {
	f := newFake()
	var got SyncCheck
	if err := syncs(f, func(v any) error { got = v.(SyncCheck); return nil }); err != nil {
		t.Fatal(err)
	}
	if got != (SyncCheck{Sets: SyncedSets, Majority: 2}) || f.sets != SyncedSets {
		t.Errorf("%+v, %d sets", got, f.sets)
	}
}

func TestMeasure(t *testing.T) {
	f := newFake()
	var got []Result
	o := Options{Name: "fake", Warmup: 20 * time.Millisecond, Duration: 100 * time.Millisecond, Value: 64, Keys: 1000}
	if err := measure(o, f, Workloads, func(v any) error { got = append(got, v.(Result)); return nil }); err != nil {
		t.Fatal(err)
	}
	remote := 0
	for _, w := range Workloads {
		if w.Remote {
			remote++
		}
	}
	if len(got) != len(Workloads)-remote {
		t.Errorf("%d results, of %d workloads without %d over TCP", len(got), len(Workloads), remote)
	}
	for _, r := range got {
		if r.Ops == 0 || r.Errors != 0 || r.System != "fake" || r.Value != 64 {
			t.Errorf("%+v", r)
		}
	}
	f.readers = 1
	for _, w := range Workloads {
		if w.Does == spread && w.possible(f) {
			t.Error("reads are spread over one member")
		}
	}
}

func TestFindWorkloads(t *testing.T) {
	got, err := FindWorkloads([]string{"get64", "set1"})
	if err != nil || len(got) != 2 || got[0].Name != "set1" || got[1].Name != "get64" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := FindWorkloads([]string{"set1", "none"}); err == nil {
		t.Error("an unknown workload is found")
	}
}

func TestCheckValue(t *testing.T) {
	no := errors.New("no")
	check := checkValue(load.NewData(1, 64))
	if check(make([]byte, 64), nil) != nil || check(nil, nil) == nil || check(make([]byte, 63), nil) == nil || !errors.Is(check(nil, no), no) {
		t.Error("a missing or cut value passes, or a whole one does not")
	}
}
