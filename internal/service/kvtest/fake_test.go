package kvtest

import (
	"testing"

	"github.com/replkv/replkv/kv"
)

// The fake obeys the table itself.
func TestFake(t *testing.T) {
	Run(t, func(*testing.T) kv.KV { return NewFake() })
}

func TestFakeLessor(t *testing.T) {
	RunLessor(t, func(*testing.T) Leased { return NewFake() })
}

func TestFakeCluster(t *testing.T) {
	RunCluster(t, func(*testing.T) kv.Cluster { return NewFake() })
}
