// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestRun(t *testing.T) {
	const generator = "package g\n\n//go:generate sh -c \"echo package g > z.go\"\n"
	tests := []struct {
		name, generated, uncommitted string
		fresh                        bool
	}{
		{"fresh", "package g\n", "", true},
		{"stale", "package old\n", "", false},
		{"never generated", "", "", false},
		{"fresh beside a change of one's own", "package g\n", "// mine\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module example.org/g\n\ngo 1.26.0\n")
			write(t, filepath.Join(dir, "g.go"), generator)
			if tt.generated != "" {
				write(t, filepath.Join(dir, "z.go"), tt.generated)
			}
			git(t, dir, "init", "-q")
			git(t, dir, "add", ".")
			git(t, dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "begin")
			write(t, filepath.Join(dir, "g.go"), generator+tt.uncommitted)

			if err := run(t.Context(), dir); (err == nil) != tt.fresh {
				t.Errorf("run: %v; fresh should be %v", err, tt.fresh)
			}
		})
	}
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "git", args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
