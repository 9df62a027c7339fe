//go:build linux

package chaos

import (
	"os"
	"testing"
)

// roleEnv makes the test binary something else than tests: it starts itself
// again for each process that a run needs.
const roleEnv = "REPLKV_CHAOS_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "member":
		os.Exit(member(os.Args[1:]))
	case "delay":
		os.Exit(delay(os.Args[1:]))
	}
	os.Exit(m.Run())
}
