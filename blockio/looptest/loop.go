// SPDX-License-Identifier: Apache-2.0

package looptest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// attachTries bounds the race for a free loop device with other processes.
const attachTries = 64

// Options says what kind of loop device is wanted; the zero value is a writable one with blocks of 512 bytes.
type Options struct {
	BlockSize uint32 // logical block size; 0 means 512
	ReadOnly  bool
	DirectIO  bool // the loop driver reads the file past the page cache
	Partition bool // show partitions of the file's partition table, as <device>p1 and so on
}

// RequireRoot skips the test unless it may attach devices and mount.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for loop devices and mounts")
	}
}

// SparseFile creates a file of size bytes, all of it a hole, and returns its path.
func SparseFile(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// Attach attaches file to a free loop device until the test ends and returns the device's path.
func Attach(t testing.TB, file string) string {
	t.Helper()
	return AttachWith(t, file, Options{})
}

// AttachWith is Attach with options.
func AttachWith(t testing.TB, file string, opt Options) string {
	t.Helper()
	RequireRoot(t)
	flag := os.O_RDWR
	if opt.ReadOnly {
		flag = os.O_RDONLY
	}
	back, err := os.OpenFile(file, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	defer ctl.Close()
	for range attachTries {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("no free loop device: %v", err)
		}
		dev := fmt.Sprintf("/dev/loop%d", n)
		held, err := configure(dev, back, opt)
		if errors.Is(err, unix.EBUSY) {
			continue // somebody was faster
		}
		if err != nil {
			t.Fatalf("attach %s to %s: %v", file, dev, err)
		}
		t.Cleanup(func() {
			if err := held.Close(); err != nil {
				t.Errorf("detach %s: %v", dev, err)
			}
		})
		return dev
	}
	t.Fatalf("attach %s: lost the race for a free loop device %d times", file, attachTries)
	return ""
}

// configure returns the descriptor that keeps the device attached: it detaches itself with the last close, so
// that not even a killed test leaves it behind.
func configure(dev string, back *os.File, opt Options) (*os.File, error) {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	cfg := unix.LoopConfig{Fd: uint32(back.Fd()), Size: opt.BlockSize}
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if opt.ReadOnly {
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	if opt.DirectIO {
		cfg.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	if opt.Partition {
		cfg.Info.Flags |= unix.LO_FLAGS_PARTSCAN
	}
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &cfg); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Resize makes a loop device take over the present size of its file.
func Resize(t testing.TB, dev string) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatalf("resize %s: %v", dev, err)
	}
}
