// SPDX-License-Identifier: Apache-2.0

package pinned

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	const mod = `{
		"Tool": [{"Path": "example.org/lint/v2/cmd/lint"}, {"Path": "example.org/run/v3"}, {"Path": "example.org/lint/other"}],
		"Require": [
			{"Path": "example.org/lint", "Version": "v1.9.0"},
			{"Path": "example.org/lint/v2", "Version": "v2.15.0"},
			{"Path": "example.org/run/v3", "Version": "v3.0.1"},
			{"Path": "example.org/runner", "Version": "v0.0.1"}
		]}`
	got, err := parse([]byte(mod), "dir")
	if err != nil {
		t.Fatal(err)
	}
	want := []Tool{
		{Name: "lint", Package: "example.org/lint/v2/cmd/lint", Version: "v2.15.0", Module: "dir"},
		{Name: "run", Package: "example.org/run/v3", Version: "v3.0.1", Module: "dir"},
		{Name: "other", Package: "example.org/lint/other", Version: "v1.9.0", Module: "dir"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Tool{})); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}

	if _, err := parse([]byte(`{"Tool": [{"Path": "example.org/lost"}]}`), "dir"); err == nil {
		t.Error("a tool that nothing requires was accepted")
	}
}

func TestListHoldsWhatMakeAsksFor(t *testing.T) {
	tools, err := List(t.Context(), "../../..")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, tool := range tools {
		versions[tool.Name] = tool.Version
	}
	for _, name := range []string{"golangci-lint", "gofumpt", "goimports", "gotestsum", "benchstat"} {
		if versions[name] == "" {
			t.Errorf("%s is not pinned", name)
		}
	}
}

func TestInstallBuildsOnce(t *testing.T) {
	mod, cache := t.TempDir(), t.TempDir()
	write(t, filepath.Join(mod, "go.mod"), "module example.org/tool\n\ngo 1.26.0\n")
	write(t, filepath.Join(mod, "main.go"), "package main\n\nfunc main() {}\n")
	tool := Tool{Name: "tool", Package: "example.org/tool", Version: "v1.0.0", dir: mod}

	bin, err := tool.Install(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(cache, "tool-v1.0.0-"+runtime.Version()); bin != want {
		t.Errorf("binary is %s, want %s", bin, want)
	}
	if _, err := os.Stat(bin + ".new"); err == nil {
		t.Error("a half-made binary was left behind")
	}

	write(t, filepath.Join(mod, "main.go"), "no longer Go")
	if _, err := tool.Install(t.Context(), cache); err != nil {
		t.Errorf("a tool that stands in the cache was built again: %v", err)
	}
	tool.Version = "v1.0.1"
	if _, err := tool.Install(t.Context(), cache); err == nil {
		t.Error("a new version was taken from the old one's binary")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
