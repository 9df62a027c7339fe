package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed are the direct dependencies of the root module. Each of them, and
// what it needs, becomes a dependency of every importer, so each has a reason,
// which docs/architecture.md gives its readers, too.
var allowed = map[string]string{
	"github.com/hashicorp/raft":            "consensus",
	"github.com/hashicorp/go-hclog":        "raft's logger interface, which is bridged to slog",
	"github.com/anishathalye/porcupine":    "internal/sim and the tests of internal/chaos check histories with it; nothing else may import it",
	"github.com/cockroachdb/pebble/v2":     "storage engine of state and log",
	"github.com/Jille/raft-grpc-transport": "the generated messages of the protocol between members",
	"github.com/hashicorp/raft-boltdb/v2":  "store/boltlog is made of it; linked only by who imports that",
	"github.com/prometheus/client_golang":  "package metrics; Pebble requires and links it anyway",
	"go.etcd.io/bbolt":                     "the file under store/boltlog, newer than raft-boltdb asks for",
	"google.golang.org/grpc":               "members and clients talk it",
	"google.golang.org/protobuf":           "run time of the generated messages",
}

func TestGoMod(t *testing.T) {
	mod := readFile(t, "go.mod")
	report(t, checkGoMod(mod, readFile(t, "docs/architecture.md")))
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// checkGoMod compares the direct dependencies with the allow-list, and that
// with the document.
func checkGoMod(mod, doc string) (complaints []string) {
	direct := directives(mod)
	for path := range direct["require"] {
		if allowed[path] == "" {
			complaints = append(complaints, fmt.Sprintf("go.mod: %s is not on the allow-list: who imports replkv would inherit it", path))
		}
	}
	for path := range allowed {
		if !direct["require"][path] {
			complaints = append(complaints, fmt.Sprintf("allow-list: go.mod does not require %s any more", path))
		}
		if !strings.Contains(doc, "`"+path+"`") {
			complaints = append(complaints, fmt.Sprintf("docs/architecture.md does not say why %s is needed", path))
		}
	}
	for _, verb := range []string{"replace", "exclude"} {
		for path := range direct[verb] {
			complaints = append(complaints, fmt.Sprintf("go.mod: %s %s does not reach importers: what they build is not what is tested here", verb, path))
		}
	}
	slices.Sort(complaints)
	return complaints
}

// directives returns the module paths of a go.mod by verb, without indirect
// requirements.
func directives(mod string) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	block := ""
	for line := range strings.Lines(mod) {
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0 || strings.TrimSpace(comment) == "indirect":
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		if out[words[0]] == nil {
			out[words[0]] = map[string]bool{}
		}
		if len(words) > 1 {
			out[words[0]][words[1]] = true
		}
	}
	return out
}

func TestGoModPlanted(t *testing.T) {
	var mod, doc strings.Builder
	mod.WriteString("module x\n\ngo 1.26.0\n\nrequire (\n")
	for path := range allowed {
		fmt.Fprintf(&mod, "\t%s v1.0.0\n", path)
		fmt.Fprintf(&doc, "| `%s` | why |\n", path)
	}
	mod.WriteString("\tgithub.com/in/direct v1.0.0 // indirect\n)\n")
	report(t, checkGoMod(mod.String(), doc.String()))
	wantComplaint(t, checkGoMod(mod.String()+"require github.com/spf13/cobra v1.0.0\n", doc.String()), "cobra is not on the allow-list")
	wantComplaint(t, checkGoMod(mod.String()+"replace github.com/a/b => ../b\n", doc.String()), "replace github.com/a/b")
	wantComplaint(t, checkGoMod("module x\n", doc.String()), "does not require github.com/hashicorp/raft")
	wantComplaint(t, checkGoMod(mod.String(), ""), "does not say why google.golang.org/grpc")
}
