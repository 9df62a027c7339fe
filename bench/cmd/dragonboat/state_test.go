package main

import (
	"bytes"
	"maps"
	"testing"

	"github.com/lni/dragonboat/v4/statemachine"
)

func TestSnapshot(t *testing.T) {
	from := newState(1, 1).(*state)
	_, err := from.Update([]statemachine.Entry{{Cmd: encode("a", []byte("1"))}, {Cmd: encode("b", nil)}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := from.PrepareSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := from.SaveSnapshot(m, &b, nil, nil); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	to := newState(1, 2).(*state)
	if err := to.RecoverFromSnapshot(&b, nil, nil); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(from.m, to.m, bytes.Equal) {
		t.Errorf("%v came back as %v", from.m, to.m)
	}
	if to.RecoverFromSnapshot(bytes.NewReader(whole[:len(whole)-1]), nil, nil) == nil {
		t.Error("half a snapshot is taken")
	}
	if _, err := to.Update([]statemachine.Entry{{Cmd: []byte{200}}}); err == nil {
		t.Error("half a command is taken")
	}
}
