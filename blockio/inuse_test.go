// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

const fsSize = 16 << 20

// wantInUse opens path as a target and wants the refusal to name who uses it; with the kernel's facts hidden
// it must be refused nevertheless where claimed is set.
func wantInUse(t *testing.T, path, by string, claimed bool) {
	t.Helper()
	var busy *InUseError
	target, err := OpenTarget(path, fsSize/2, TargetOptions{})
	if err == nil {
		_ = target.Close()
	}
	if !errors.As(err, &busy) || !strings.Contains(busy.By, by) {
		t.Errorf("OpenTarget(%s) = %v, want it in use: %s", path, err, by)
	}
	if !claimed {
		return
	}
	defer func(k kernelView) { theKernel = k }(theKernel)
	theKernel = kernelView{mountinfo: "/absent", swaps: "/absent", sys: "/absent"}
	if target, err = OpenTarget(path, fsSize/2, TargetOptions{}); !errors.As(err, &busy) {
		t.Errorf("without facts OpenTarget(%s) = %v", path, err)
		if err == nil {
			_ = target.Close()
		}
	}
}

func TestMountedDeviceIsRefused(t *testing.T) {
	for fs, size := range map[string]int64{"ext4": fsSize, "xfs": 320 << 20, "btrfs": 160 << 20} {
		t.Run(fs, func(t *testing.T) {
			dir, dev := looptest.MountedFS(t, fs, size)
			wantInUse(t, dev, "mounted at "+dir+" ("+fs+")", true)
			inside := openTestTarget(t, filepath.Join(dir, "a file"), 8192)
			if err := inside.Close(); err != nil {
				t.Errorf("a file inside the mounted file system: %v", err)
			}
			forced, err := OpenTarget(dev, size, TargetOptions{Force: true})
			if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) { // a kernel may forbid it to everybody
				t.Errorf("forced: %v", err)
			}
			if err == nil {
				_ = forced.Close()
			}
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			if err := openTestTarget(t, dev, size).Close(); err != nil {
				t.Errorf("after the unmount: %v", err)
			}
		})
	}
}

func TestMountPointWithASpaceIsNamed(t *testing.T) {
	image := looptest.SparseFile(t, fsSize)
	looptest.MakeFS(t, image, "ext4", fsSize)
	dev := looptest.Attach(t, image)
	dir := filepath.Join(t.TempDir(), "my data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	looptest.Mount(t, dev, dir)
	wantInUse(t, dev, "mounted at "+dir+" (ext4)", true)
	wantInUse(t, image, "under "+dev+", which is mounted", false)
}

func TestDiskWithAMountedPartitionIsRefused(t *testing.T) {
	const start = 1 << 20
	image := looptest.SparseFile(t, fsSize+4<<20)
	disk := looptest.AttachWith(t, image, looptest.Options{Partition: true})
	part := addPartition(t, disk, start, fsSize)
	fs := looptest.SparseFile(t, fsSize)
	looptest.MakeFS(t, fs, "ext4", fsSize)
	content, err := os.ReadFile(fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, content, 0); err != nil {
		t.Fatal(err)
	}
	if err := openTestTarget(t, disk, fsSize).Close(); err != nil {
		t.Fatalf("a partitioned disk that nobody uses: %v", err)
	}
	dir := t.TempDir()
	looptest.Mount(t, part, dir)
	wantInUse(t, part, "mounted at "+dir, true)
	wantInUse(t, disk, "is mounted at "+dir, true)
}

// addPartition tells the kernel of a partition, as a partitioning tool does, for not every kernel reads tables.
func addPartition(t *testing.T, disk string, start, size int64) string {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := struct {
		start, length int64
		number        int32
		names         [128]byte
		_             int32
	}{start: start, length: size, number: 1}
	arg := struct {
		op, flags, size int32
		_               int32
		data            unsafe.Pointer
	}{op: 1, size: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)} // BLKPG_ADD_PARTITION
	if err := ioctlPtr(int(f.Fd()), unix.BLKPG, unsafe.Pointer(&arg)); err != nil {
		t.Skipf("no partitions on loop devices here: %v", err)
	}
	return disk + "p1"
}

func TestSwapIsRefused(t *testing.T) {
	looptest.RequireRoot(t)
	tool, err := exec.LookPath("mkswap")
	if err != nil {
		t.Skipf("needs mkswap: %v", err)
	}
	dev := looptest.Attach(t, looptest.SparseFile(t, fsSize))
	if out, err := exec.CommandContext(t.Context(), tool, dev).CombinedOutput(); err != nil {
		t.Fatalf("mkswap: %v\n%s", err, out)
	}
	name, err := unix.BytePtrFromString(dev)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
		t.Skipf("no swapping here: %v", errno)
	}
	defer func() {
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
			t.Errorf("swapoff %s: %v", dev, errno)
		}
	}()
	wantInUse(t, dev, "in use as swap", true)
}

func TestExclusiveClaimWorksBothWays(t *testing.T) {
	dev := looptest.Attach(t, looptest.SparseFile(t, fsSize))
	target := openTestTarget(t, dev, fsSize)
	wantInUse(t, dev, "exclusively", true)
	if f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0); !errors.Is(err, unix.EBUSY) {
		t.Errorf("somebody else claimed an open target: %v", err)
		if err == nil {
			_ = f.Close()
		}
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openTestTarget(t, dev, fsSize).Close(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// Holders, swap files and stacked loops, as the kernel writes them down.
func TestKernelFacts(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "swap file")
	put := func(name, content string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("swap file", "")
	image := put("image", "")
	k := kernelView{
		sys:   root,
		swaps: put("swaps", "Filename\tType\tSize\tUsed\tPriority\n"+strings.ReplaceAll(file, " ", `\040`)+" file 8188 0 -2\n"),
		mountinfo: put("mountinfo", "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n"+
			`29 27 8:33 / /mnt/a\040b rw,relatime shared:1 - xfs /dev/sdc1 rw`+"\n"),
	}
	put("dev/block/8:16/holders/md0", "")
	put("dev/block/8:16/holders/dm-3", "")
	put("dev/block/8:32/sdc1/partition", "1\n")
	put("dev/block/8:32/sdc1/dev", "8:33\n")
	put("block/loop5/loop/backing_file", image+"\n")
	put("block/loop5/dev", "7:5\n")
	put("dev/block/7:5/holders/dm-0", "")
	for _, c := range []struct {
		device deviceNumber
		want   string
	}{
		{deviceNumber{8, 1}, "mounted at / (ext4)"},
		{deviceNumber{8, 16}, "held by dm-3, md0"},
		{deviceNumber{8, 33}, "mounted at /mnt/a b (xfs)"},
		{deviceNumber{8, 32}, "its partition 8:33 is mounted at /mnt/a b (xfs)"},
		{deviceNumber{8, 48}, ""},
	} {
		if got := k.userOfDevice(c.device); got != c.want {
			t.Errorf("user of %s = %q, want %q", c.device, got, c.want)
		}
	}
	for path, want := range map[string]string{
		file: "in use as swap", image: "it is under /dev/loop5, which is held by dm-0", k.swaps: "",
	} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.userOfFile(st); got != want {
			t.Errorf("user of %s = %q, want %q", path, got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a`: "/a", `/a\040b\134`: `/a b\`, `\04`: `\04`, `\999x`: `\999x`} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}
