// SPDX-License-Identifier: Apache-2.0

package tidemark_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	spdx           = "// SPDX-License-Identifier: Apache-2.0"
	maxFileLines   = 500
	maxMethods     = 25
	docFile        = "doc.go"
	decisionFolder = "docs/decisions"
)

// tracked returns the files of the repository: what git knows, or every file where this is not a git work tree.
func tracked(t *testing.T) []string {
	t.Helper()
	var files []string
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z").Output()
	if err != nil {
		files = walk(t)
	} else {
		files = strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	}
	// A file removed but not yet committed is still listed.
	files = slices.DeleteFunc(files, func(f string) bool {
		info, err := os.Lstat(f)
		return err != nil || !info.Mode().IsRegular()
	})
	if len(files) < 10 {
		t.Fatalf("found only %d files: these tests would say nothing", len(files))
	}
	return files
}

func walk(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || slices.Contains([]string{"bin", "dist", ".cache"}, p)) {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func isTestdata(file string) bool {
	return strings.HasPrefix(file, "testdata/") || strings.Contains(file, "/testdata/")
}

// goFiles returns the tracked Go files but those that are test inputs.
func goFiles(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(tracked(t), func(f string) bool { return !strings.HasSuffix(f, ".go") || isTestdata(f) })
}

// A generated file says so in the line the go command defines for it.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestGoFilesHaveLicence(t *testing.T) {
	for _, f := range goFiles(t) {
		if first, _, _ := bytes.Cut(read(t, f), []byte("\n")); string(first) != spdx {
			t.Errorf("%s: the first line is not %q", f, spdx)
		}
	}
}

func TestGoFilesWithinBudget(t *testing.T) {
	for _, f := range goFiles(t) {
		b := read(t, f)
		if n := bytes.Count(b, []byte("\n")); n > maxFileLines && !generated.Match(b) {
			t.Errorf("%s: %d lines; the budget is %d: split it by subject", f, n, maxFileLines)
		}
	}
}

func TestEachPackageHasOneDoc(t *testing.T) {
	docs := map[string][]string{} // directory → files with a package comment
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		dir := path.Dir(f)
		if _, seen := docs[dir]; !seen {
			docs[dir] = nil
		}
		if parse(t, f, parser.PackageClauseOnly|parser.ParseComments).Doc != nil {
			docs[dir] = append(docs[dir], path.Base(f))
		}
	}
	for dir, files := range docs {
		if len(files) != 1 || files[0] != docFile {
			t.Errorf("%s: package comments in %v, want exactly one, in %s (an SPDX line without an empty line below it counts as one)", dir, files, docFile)
		}
	}
}

func TestNoUnnamedSubjects(t *testing.T) {
	forbidden := []string{"util", "utils", "common", "helper", "helpers", "misc", "types"}
	for _, f := range goFiles(t) {
		dir, file := path.Split(f)
		for _, name := range append(strings.Split(path.Clean(dir), "/"), strings.TrimSuffix(strings.TrimSuffix(file, ".go"), "_test")) {
			if slices.Contains(forbidden, name) {
				t.Errorf("%s: %q names no subject; name it for what it holds", f, name)
			}
		}
	}
}

var postponed = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

func TestNothingPostponed(t *testing.T) {
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		for n, line := range lines(read(t, f)) {
			if m := postponed.Find(line); m != nil {
				t.Errorf("%s:%d: %s: do it now, or open an issue", f, n, m)
			}
		}
	}
}

func TestTypesWithinBudget(t *testing.T) {
	methods := map[string]int{} // directory and type → methods
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f, "_test.go") || generated.Match(read(t, f)) {
			continue
		}
		for _, d := range parse(t, f, parser.SkipObjectResolution).Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
				methods[path.Dir(f)+"."+receiver(fn.Recv.List[0].Type)]++
			}
		}
	}
	for name, n := range methods {
		if n > maxMethods {
			t.Errorf("%s has %d methods; the budget is %d: it is several types", name, n, maxMethods)
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return fmt.Sprintf("%T", e)
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestModulesReplaceNothing(t *testing.T) {
	for _, f := range tracked(t) {
		if path.Base(f) != "go.mod" || isTestdata(f) {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", f).Output()
		if err != nil {
			t.Fatalf("read %s: %v", f, err)
		}
		var mod struct {
			Replace []struct{ Old struct{ Path string } }
		}
		if err := json.Unmarshal(out, &mod); err != nil {
			t.Fatal(err)
		}
		for _, r := range mod.Replace {
			t.Errorf("%s replaces %s: whoever imports this module would build another program than we test", f, r.Old.Path)
		}
	}
}

// TestEditorConfig checks what .editorconfig says, for editors that do not read it.
func TestEditorConfig(t *testing.T) {
	for _, f := range tracked(t) {
		b := read(t, f)
		if isTestdata(f) || len(b) == 0 || bytes.IndexByte(b, 0) >= 0 {
			continue
		}
		if !bytes.HasSuffix(b, []byte("\n")) || bytes.HasSuffix(b, []byte("\n\n")) {
			t.Errorf("%s: does not end in exactly one newline", f)
		}
		tabs := strings.HasSuffix(f, ".go") || path.Base(f) == "Makefile"
		for n, line := range lines(b) {
			switch {
			case bytes.HasSuffix(line, []byte("\r")):
				t.Errorf("%s:%d: ends in a carriage return", f, n)
			case bytes.HasSuffix(line, []byte(" ")) || bytes.HasSuffix(line, []byte("\t")):
				t.Errorf("%s:%d: ends in white space", f, n)
			case path.Base(f) == "Makefile" && bytes.HasPrefix(line, []byte(" ")):
				t.Errorf("%s:%d: indented with spaces", f, n)
			case !tabs && bytes.HasPrefix(line, []byte("\t")) && !strings.HasPrefix(path.Base(f), "go."):
				t.Errorf("%s:%d: indented with a tab", f, n)
			}
		}
	}
}

// lines returns each line with its number, without its newline.
func lines(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		n := 0
		for line := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
			if n++; !yield(n, line) {
				return
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// localLinks returns the files that a Markdown file links to, relative to the root.
func localLinks(t *testing.T, file string) []string {
	t.Helper()
	var found []string
	for _, m := range link.FindAllSubmatch(read(t, file), -1) {
		target, _, _ := strings.Cut(string(m[1]), "#")
		if target != "" && !strings.Contains(target, "://") && !strings.HasPrefix(target, "mailto:") {
			found = append(found, path.Join(path.Dir(file), target))
		}
	}
	return found
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, f := range tracked(t) {
		if !strings.HasSuffix(f, ".md") || isTestdata(f) {
			continue
		}
		for _, target := range localLinks(t, f) {
			if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which does not exist", f, target)
			}
		}
	}
}

var decisionName = regexp.MustCompile(`^[0-9]{4}-[a-z0-9-]+\.md$`)

func TestDocsAreOnTheMap(t *testing.T) {
	linked := localLinks(t, "docs/README.md")
	for _, f := range tracked(t) {
		if !strings.HasPrefix(f, "docs/") || !strings.HasSuffix(f, ".md") || f == "docs/README.md" {
			continue
		}
		if !slices.Contains(linked, f) {
			t.Errorf("%s is not linked from docs/README.md", f)
		}
		if path.Dir(f) == decisionFolder && !decisionName.MatchString(path.Base(f)) {
			t.Errorf("%s: decisions are named like 0001-record-decisions.md", f)
		}
	}
}
