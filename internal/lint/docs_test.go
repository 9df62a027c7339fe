package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// compiledExamples are where the Go code of README.md stands, too: there it is
// compiled, and run.
var compiledExamples = []string{"example_test.go", "concurrency/example_test.go", "examples/embed/main.go"}

var documents = []string{"README.md", "docs/architecture.md", "docs/guarantees.md", "docs/monitoring.md"}

func TestReadmeCode(t *testing.T) {
	var code string
	for _, name := range compiledExamples {
		code += readFile(t, name)
	}
	report(t, checkReadmeCode(readFile(t, "README.md"), code))
}

// checkReadmeCode wants every Go block of the README to be part of compiled
// code, but for white space at the ends of lines.
func checkReadmeCode(readme, code string) (complaints []string) {
	code = trimLines(code)
	for i, block := range goBlock.FindAllStringSubmatch(readme, -1) {
		if !strings.Contains(code, trimLines(block[1])) {
			complaints = append(complaints, fmt.Sprintf("README.md: Go block %d is not in %s:\n%s", i+1, strings.Join(compiledExamples, " or "), block[1]))
		}
	}
	return complaints
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// trimLines makes code comparable that is indented differently.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestDocumentsNameFiles(t *testing.T) {
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	for _, name := range documents {
		report(t, checkFileNames(name, readFile(t, name), exists))
	}
}

var (
	fileName = regexp.MustCompile("`([A-Za-z0-9_./-]+\\.(?:go|proto|md))`")
	linkTo   = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// checkFileNames wants the files that a document names or links to be there.
// Names are relative to the root, links to the document.
func checkFileNames(name, text string, exists func(string) bool) (complaints []string) {
	for _, m := range fileName.FindAllStringSubmatch(text, -1) {
		if !exists(m[1]) {
			complaints = append(complaints, fmt.Sprintf("%s names %s, which is not there", name, m[1]))
		}
	}
	for _, m := range linkTo.FindAllStringSubmatch(text, -1) {
		if !exists(filepath.ToSlash(filepath.Join(filepath.Dir(name), m[1]))) {
			complaints = append(complaints, fmt.Sprintf("%s links to %s, which is not there", name, m[1]))
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestDocumentsPlanted(t *testing.T) {
	readme := "text\n```go\ndb, err := replkv.Open(cfg)\n```\n"
	report(t, checkReadmeCode(readme, "func f() {\n\tdb, err := replkv.Open(cfg)\n}\n"))
	wantComplaint(t, checkReadmeCode(readme, "func f() {\n\tdb := replkv.MustOpen(cfg)\n}\n"), "Go block 1")
	exists := func(name string) bool { return name == "open.go" || name == "docs/guarantees.md" }
	report(t, checkFileNames("docs/a.md", "`open.go` and [what](guarantees.md#x)", exists))
	wantComplaint(t, checkFileNames("docs/a.md", "`close.go`", exists), "names close.go")
	wantComplaint(t, checkFileNames("README.md", "[what](guarantees.md)", exists), "links to guarantees.md")
}
