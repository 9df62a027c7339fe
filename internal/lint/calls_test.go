package lint

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strconv"
	"testing"
)

// free are no libraries for others: the main functions of programs own the
// process, and a suite of tests may panic to see what happens.
var free = []string{"cmd", "examples", "bench", "tools", "internal/service/kvtest", "internal/sim/cmd"}

// forbidden are the calls and variables that library code does not use, by
// import path and by a pattern of their names. Path "" stands for builtins.
var forbidden = []struct {
	path, names, why string
}{
	{"", "panic", "a panic ends the host's process: return an error"},
	{"", "print|println", "a library prints nothing: log through Config.Logger"},
	{"fmt", "Print|Printf|Println", "a library prints nothing: log through Config.Logger"},
	{"os", "Exit", "a library does not end its host's process"},
	{"os", "Stdout|Stderr|Stdin", "the standard streams are the host's"},
	{"syscall", "Exit|Kill", "a library does not end its host's process"},
	{"log", "Fatal.*|Panic.*", "a library does not end its host's process"},
	{"log", "Print.*|Output|Default|SetOutput|SetFlags|SetPrefix", "the global logger is the host's: log through Config.Logger"},
	{"log/slog", "Debug|Info|Warn|Error|Default|SetDefault|(Debug|Info|Warn|Error)Context", "the global logger is the host's: log through Config.Logger"},
	{"time", "Sleep", "a sleep does not end with its ctx: use a timer and select"},
	{"time", "After|Tick", "it cannot be stopped when ctx ends first: use a timer"},
	{"os/signal", ".*", "signals are the host's"},
	{"flag", ".*", "command line flags are the host's"},
	{"net/http", "Handle|HandleFunc|DefaultServeMux", "two stores live in one process: no global registries"},
	{"github.com/prometheus/client_golang/prometheus", "MustRegister|Register|DefaultRegisterer|DefaultGatherer", "two stores live in one process: no global registries"},
	{"github.com/hashicorp/go-metrics", "NewGlobal", "two stores live in one process: no global registries"},
}

func TestCalls(t *testing.T) {
	for _, p := range repository(t) {
		report(t, checkCalls(p))
	}
}

// checkCalls looks at the uses of names; a local name that hides a builtin or
// a package is not told apart, and had better be renamed.
func checkCalls(p pkg) (complaints []string) {
	if p.in(free...) {
		return nil
	}
	for _, f := range p.files {
		if ast.IsGenerated(f) {
			continue
		}
		names := importNames(f)
		ast.Inspect(f, func(n ast.Node) bool {
			from, name := used(n, names)
			for _, rule := range forbidden {
				if name != "" && rule.path == from && regexp.MustCompile(`^(`+rule.names+`)$`).MatchString(name) {
					complaints = append(complaints, fmt.Sprintf("%s: %s: %s", p.fset.Position(n.Pos()), path.Base(from)+"."+name, rule.why))
				}
			}
			return true
		})
		complaints = append(complaints, dotImports(p, f)...)
	}
	return complaints
}

// used returns the import path and name that n refers to: a qualified name, or
// the call of a builtin.
func used(n ast.Node, names map[string]string) (from, name string) {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && names[x.Name] != "" {
			return names[x.Name], n.Sel.Name
		}
	case *ast.CallExpr:
		if x, ok := n.Fun.(*ast.Ident); ok {
			return "", x.Name
		}
	}
	return "", ""
}

var version = regexp.MustCompile(`^v[0-9]+$`)

// importNames maps the names of a file's imports to their paths.
func importNames(f *ast.File) map[string]string {
	out := map[string]string{}
	for _, i := range f.Imports {
		from, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(from)
		if version.MatchString(name) {
			name = path.Base(path.Dir(from))
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = from
	}
	return out
}

// dotImports hide where a name comes from.
func dotImports(p pkg, f *ast.File) (complaints []string) {
	for _, i := range f.Imports {
		if i.Name != nil && i.Name.Name == "." {
			complaints = append(complaints, fmt.Sprintf("%s: dot import", p.fset.Position(i.Pos())))
		}
	}
	return complaints
}

func TestCallsPlanted(t *testing.T) {
	for _, c := range []struct{ imports, stmt, want string }{
		{"", `panic("no")`, "panic"},
		{"", `println("no")`, "println"},
		{"fmt", `fmt.Printf("no")`, "fmt.Printf"},
		{"os", `os.Exit(1)`, "os.Exit"},
		{"os", `_ = os.Stderr`, "os.Stderr"},
		{"log", `log.Fatalf("no")`, "log.Fatalf"},
		{"log", `log.Println("no")`, "log.Println"},
		{"log/slog", `slog.Info("no")`, "slog.Info"},
		{"time", `time.Sleep(1)`, "time.Sleep"},
		{"time", `<-time.After(1)`, "time.After"},
		{"os/signal", `signal.Notify(nil)`, "signal.Notify"},
		{"flag", `flag.Parse()`, "flag.Parse"},
		{"net/http", `http.Handle("/", nil)`, "http.Handle"},
		{"github.com/prometheus/client_golang/prometheus", `prometheus.MustRegister()`, "prometheus.MustRegister"},
	} {
		imports := ""
		if c.imports != "" {
			imports = fmt.Sprintf("import %q\n", c.imports)
		}
		src := "package p\n" + imports + "func f() {\n" + c.stmt + "\n}\n"
		wantComplaint(t, checkCalls(planted(t, "planted", src)), c.want)
		report(t, checkCalls(planted(t, "cmd/planted", src)))
		report(t, checkCalls(planted(t, "planted", "// Code generated by hand. DO NOT EDIT.\n\n"+src)))
	}
	renamed := planted(t, "planted", "package p\nimport quit \"os\"\nfunc f() { quit.Exit(1) }\n")
	wantComplaint(t, checkCalls(renamed), "os.Exit")
	wantComplaint(t, checkCalls(planted(t, "planted", "package p\nimport . \"os\"\n")), "dot import")
	report(t, checkCalls(planted(t, "planted", "package p\nimport \"fmt\"\nfunc f() string { return fmt.Sprint(1) }\n")))
}
