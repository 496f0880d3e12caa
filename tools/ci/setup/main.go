// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/tools/ci/pinned"
)

// A need is a system package, known to be there by one of its files.
type need struct {
	pkg   string
	files []string // glob patterns; all must match something
	why   string
}

var needs = []need{
	{"gcc", bins("gcc"), "the race detector links with it"},
	{"libc6-dev", []string{"/usr/include/stdlib.h"}, "the race detector links with it"},
	{"git", bins("git"), "the hygiene test asks for tracked files"},
	{"mount", bins("losetup", "mount"), "file systems on loop devices"},
	{"e2fsprogs", bins("mkfs.ext4", "fsck.ext4"), "ext4 volumes"},
	{"xfsprogs", bins("mkfs.xfs", "xfs_repair"), "XFS volumes and reflink copies"},
	{"btrfs-progs", bins("mkfs.btrfs"), "btrfs volumes and reflink copies"},
	{"fuse3", bins("fusermount3"), "volumes that fail to read"},
	{"postgresql", []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/lib/postgresql/*/bin/pgbench", "/usr/lib/postgresql/*/bin/pg_amcheck"}, "a database under load"},
	{"jq", bins("jq"), "scripts that read --json"},
}

func main() {
	ctx := context.Background()
	if err := packages(ctx); err != nil {
		// Not fatal: what cannot be tested here is skipped by name, and the rest is worth running.
		fmt.Fprintln(os.Stderr, "setup: warning:", err)
	}
	if err := servers(ctx, "."); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

// servers builds what tests talk to: everything that tools/servers pins.
func servers(ctx context.Context, root string) error {
	tools, err := pinned.List(ctx, root)
	if err != nil {
		return err
	}
	for _, t := range tools {
		if t.Module != "servers" {
			continue
		}
		if _, err := t.Install(ctx, pinned.CacheDir(root)); err != nil {
			return err
		}
	}
	return nil
}

// packages installs the missing system packages.
func packages(ctx context.Context) error {
	missing := lacking(needs, "/")
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, n := range missing {
		fmt.Fprintf(os.Stderr, "setup: missing %s: %s\n", n.pkg, n.why)
		names = append(names, n.pkg)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("not root; install them with: apt-get install %s", strings.Join(names, " "))
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("no apt-get here; install them by hand")
	}
	if err := quietly(ctx, apt, "update", "-q"); err != nil {
		return err
	}
	return quietly(ctx, apt, append([]string{"install", "-y", "-q", "--no-install-recommends"}, names...)...)
}

// lacking returns the needs not met below root.
func lacking(needs []need, root string) []need {
	return slices.DeleteFunc(slices.Clone(needs), func(n need) bool {
		return !slices.ContainsFunc(n.files, func(pattern string) bool { return !found(root, pattern) })
	})
}

// found looks in the three places a Debian package may put a program; PATH of an ordinary user lacks the sbin ones.
func found(root, pattern string) bool {
	patterns := []string{pattern}
	if !strings.HasPrefix(pattern, "/") {
		patterns = []string{"/usr/bin/" + pattern, "/usr/sbin/" + pattern, "/bin/" + pattern, "/sbin/" + pattern, "/usr/local/bin/" + pattern}
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		matches, err := filepath.Glob(filepath.Join(root, p))
		return err == nil && len(matches) > 0
	})
}

// quietly shows a command's output only when it fails.
func quietly(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func bins(names ...string) []string { return names }
