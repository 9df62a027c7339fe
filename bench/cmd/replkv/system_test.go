package main

import (
	"testing"

	"github.com/replkv/replkv/bench/system/systemtest"
)

func TestSystem(t *testing.T) { systemtest.Run(t, open) }
