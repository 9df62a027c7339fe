package kvtest

import (
	"testing"

	"github.com/replkv/replkv/kv"
)

// The fake obeys the table itself.
func TestFake(t *testing.T) {
	Run(t, func(*testing.T) kv.KV { return NewFake() })
}
