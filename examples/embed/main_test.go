package main

import (
	"strings"
	"testing"
)

func TestRunTwice(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, want := range []string{
		"before: \"\", written 0 times\nusername=admin, revision 2\n",
		"before: \"admin\", written 1 times\nusername=admin, revision 3\n",
	} {
		var out strings.Builder
		if err := run(t.Context(), &out); err != nil || out.String() != want {
			t.Errorf("got %q, %v, want %q", &out, err, want)
		}
	}
}
