// SPDX-License-Identifier: Apache-2.0

package pinned

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// A Tool is one tool directive of a module under tools.
type Tool struct {
	Name    string // last element of the package path, without a major version
	Package string
	Version string
	Module  string // the directory below tools that pins it
	dir     string
}

// List returns every tool pinned below root, sorted by name. Root is the directory of the product's go.mod.
func List(ctx context.Context, root string) ([]Tool, error) {
	mods, err := filepath.Glob(filepath.Join(root, "tools", "*", "go.mod"))
	if err != nil {
		return nil, err
	}
	var tools []Tool
	for _, mod := range mods {
		out, err := command(ctx, filepath.Dir(mod), "mod", "edit", "-json").Output()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", mod, err)
		}
		found, err := parse(out, filepath.Dir(mod))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", mod, err)
		}
		tools = append(tools, found...)
	}
	slices.SortFunc(tools, func(a, b Tool) int { return cmp.Compare(a.Name, b.Name) })
	return tools, nil
}

// Path returns the binary of the named tool, building it first where it is missing.
func Path(ctx context.Context, root, name string) (string, error) {
	tools, err := List(ctx, root)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(tools, func(t Tool) bool { return t.Name == name })
	if i < 0 {
		return "", fmt.Errorf("no module below %s pins a tool named %q", filepath.Join(root, "tools"), name)
	}
	return tools[i].Install(ctx, CacheDir(root))
}

// Install returns the tool's binary below dir, building it first where it is missing.
func (t Tool) Install(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", t.Name, t.Version, runtime.Version()))
	if exists(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(bin + ".lock")
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", bin, err)
	}
	defer unlock()
	if exists(bin) { // another process built it while we waited
		return bin, nil
	}
	return bin, t.build(ctx, bin)
}

func (t Tool) build(ctx context.Context, bin string) error {
	fmt.Fprintf(os.Stderr, "building %s %s (once)\n", t.Name, t.Version)
	tmp := bin + ".new"
	build := command(ctx, t.dir, "build", "-o", tmp, t.Package)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s %s: %w", t.Name, t.Version, err)
	}
	return os.Rename(tmp, bin)
}

// parse reads the output of `go mod edit -json`.
func parse(mod []byte, dir string) ([]Tool, error) {
	var m struct {
		Tool    []struct{ Path string }
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(mod, &m); err != nil {
		return nil, err
	}
	var tools []Tool
	for _, t := range m.Tool {
		var module, version string
		for _, r := range m.Require { // the longest module path that holds the package
			if len(r.Path) > len(module) && (t.Path == r.Path || strings.HasPrefix(t.Path, r.Path+"/")) {
				module, version = r.Path, r.Version
			}
		}
		if version == "" {
			return nil, fmt.Errorf("tool %s: no requirement holds it", t.Path)
		}
		tools = append(tools, Tool{Name: toolName(t.Path), Package: t.Path, Version: version, Module: filepath.Base(dir), dir: dir})
	}
	return tools, nil
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

func toolName(pkg string) string {
	if majorVersion.MatchString(path.Base(pkg)) {
		pkg = path.Dir(pkg)
	}
	return path.Base(pkg)
}

// CacheDir is where binaries go. It survives fresh clones where the user has a cache directory; a user without one gets it in the work tree.
func CacheDir(root string) string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "tidemark-tools")
	}
	return filepath.Join(root, ".cache", "bin")
}

// command keeps the caller's workspace and flags for the product out of the tools' modules.
func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=")
	return c
}

// lock waits for the file lock at path. The file stays: removing it would let two holders meet.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
