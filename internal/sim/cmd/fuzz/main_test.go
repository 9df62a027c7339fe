package main

import "testing"

func TestOvertime(t *testing.T) {
	const began = "fuzz: elapsed: 0s, gathering baseline coverage: 0/1 completed\nfuzz: elapsed: 3s, execs: 40304 (13431/sec), new interesting: 104 (total: 108)\n"
	for out, want := range map[string]bool{
		began + "--- FAIL: FuzzStream (3.20s)\n    context deadline exceeded\nFAIL\n": true,
		began + "PASS\n": false,
		began + "--- FAIL: FuzzStream (0.20s)\n    --- FAIL: FuzzStream (0.00s)\n        fuzz_test.go:9: context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzStream/1\nFAIL\n": false,
		began + "--- FAIL: FuzzStream (3.20s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n":                                                                           false,
	} {
		if overtime.MatchString(out) != want {
			t.Errorf("not %v: %s", want, out)
		}
	}
}
