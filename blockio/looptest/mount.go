// SPDX-License-Identifier: Apache-2.0

package looptest

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// mkfs holds, per file system, the command that makes one in a file.
var mkfs = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"},
	"xfs":   {"mkfs.xfs", "-q", "-f"},
	"btrfs": {"mkfs.btrfs", "-q", "-f"},
}

// MakeFS makes image a sparse file of size bytes with an empty file system in it: "ext4", "xfs" (at least
// 300 MiB) or "btrfs" (at least 128 MiB). The file is created when it does not exist.
func MakeFS(t testing.TB, image, fs string, size int64) {
	t.Helper()
	cmd, known := mkfs[fs]
	if !known {
		t.Fatalf("no way to make a file system of kind %q", fs)
	}
	tool, err := exec.LookPath(cmd[0])
	if err != nil {
		t.Skipf("needs %s: %v", cmd[0], err)
	}
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, cmd[1:]...), image)
	if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", cmd[0], image, err, out)
	}
}

// Mount mounts the file system on dev at dir, which must exist, until the test ends.
func Mount(t testing.TB, dev, dir string) {
	t.Helper()
	RequireRoot(t)
	var last error
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		if last = unix.Mount(dev, dir, fs, unix.MS_NODEV|unix.MS_NOSUID, ""); last == nil {
			t.Cleanup(func() { unmount(t, dir) })
			return
		}
		if !errors.Is(last, unix.EINVAL) && !errors.Is(last, unix.ENODEV) { // not this kind, or unknown here
			break
		}
	}
	t.Fatalf("mount %s at %s: %v", dev, dir, last)
}

func unmount(t testing.TB, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: the test unmounted it itself
		return
	}
	t.Errorf("unmount %s: %v", dir, err)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Errorf("detach %s: %v", dir, err)
	}
}

// MountedFS makes a file system, attaches and mounts it, and returns the directory and the device.
func MountedFS(t testing.TB, fs string, size int64) (dir, dev string) {
	t.Helper()
	RequireRoot(t)
	image := SparseFile(t, size)
	MakeFS(t, image, fs, size)
	dev = Attach(t, image)
	dir = t.TempDir()
	Mount(t, dev, dir)
	return dir, dev
}
