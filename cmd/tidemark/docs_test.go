// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func reference(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What scripts find in a document stands in the reference.
func TestReferenceHasEveryField(t *testing.T) {
	doc := reference(t)
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	seen := 0
	for _, script := range scripts {
		archive, err := txtar.ParseFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".shape") {
				continue
			}
			for line := range strings.Lines(string(f.Data)) {
				path, _, _ := strings.Cut(line, " ")
				for field := range strings.SplitSeq(strings.ReplaceAll(path, "[]", ""), ".") {
					if field == "k" { // a tag's own key
						continue
					}
					seen++
					if !strings.Contains(doc, "`"+field+"`") && !strings.Contains(doc, `"`+field+`"`) {
						t.Errorf("%s, %s: docs/cli.md does not name the field %s", script, f.Name, field)
					}
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no script describes a document")
	}
}

func TestReferenceHasEveryReason(t *testing.T) {
	doc := reference(t)
	reasons := []string{reasonInterrupted, "failed"}
	for _, v := range verdicts {
		reasons = append(reasons, v.reason)
	}
	for _, r := range reasons {
		if !strings.Contains(doc, "`"+r+"`") {
			t.Errorf("docs/cli.md does not name the reason %s", r)
		}
	}
}

// Commands and global flags stand in the reference; every flag says what it is for.
func TestReferenceHasEveryCommand(t *testing.T) {
	doc := reference(t)
	root := newApp(os.Stdin, os.Stdout, os.Stderr).rootCommand()
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(doc, "`--"+f.Name+"`") {
			t.Errorf("docs/cli.md does not name --%s", f.Name)
		}
	})
	each := func(c *cobra.Command) {
		if !strings.Contains(doc, "tidemark "+c.Use+"\n") {
			t.Errorf("docs/cli.md does not show %q", c.Use)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing of itself", c.Name(), f.Name)
			}
		})
	}
	for _, c := range root.Commands() {
		each(c)
	}
}
