// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// kernelView is where the kernel tells who uses a device. What it tells makes a good sentence and covers what
// O_EXCL does not (a loop device over the target); what it does not tell, because a container hides it, O_EXCL
// still refuses (I4). So missing files are no error.
type kernelView struct {
	mountinfo, swaps, sys string
	writers               bool // who reads only does not count
}

var theKernel = kernelView{mountinfo: "/proc/self/mountinfo", swaps: "/proc/swaps", sys: "/sys"}

// loopDepth bounds how far a stack of loop devices is followed.
const loopDepth = 4

type deviceNumber struct{ major, minor uint32 }

func (d deviceNumber) String() string { return fmt.Sprintf("%d:%d", d.major, d.minor) }

// deviceOf is the number of a block device's node.
func deviceOf(st os.FileInfo) (deviceNumber, bool) {
	raw, ok := st.Sys().(*syscall.Stat_t)
	if !ok || st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
		return deviceNumber{}, false
	}
	return deviceNumber{unix.Major(raw.Rdev), unix.Minor(raw.Rdev)}, true
}

func deviceAt(path string) (deviceNumber, bool) {
	st, err := os.Stat(path)
	if err != nil {
		return deviceNumber{}, false
	}
	return deviceOf(st)
}

// userOfDevice says who uses the device or one of its partitions; empty means nobody that is known.
func (k kernelView) userOfDevice(d deviceNumber) string { return k.deviceUser(d, loopDepth) }

func (k kernelView) deviceUser(d deviceNumber, depth int) string {
	family := append([]deviceNumber{d}, k.partitions(d)...)
	for _, member := range family {
		by := k.mounted(member)
		if by == "" {
			by = k.swapping(func(path string) bool { n, ok := deviceAt(path); return ok && n == member })
		}
		if by == "" {
			by = k.held(member)
		}
		if by != "" && member != d {
			return "its partition " + member.String() + " is " + by
		}
		if by != "" {
			return by
		}
	}
	return k.loopUser(func(path string) bool { n, ok := deviceAt(path); return ok && n == d }, depth)
}

// userOfFile says whether a regular file is swapped to, or lies under a loop device that is used.
func (k kernelView) userOfFile(st os.FileInfo) string {
	same := func(path string) bool {
		other, err := os.Stat(path)
		return err == nil && os.SameFile(st, other)
	}
	if by := k.swapping(same); by != "" {
		return by
	}
	return k.loopUser(same, loopDepth)
}

// Writer says who may be writing to the source while it is read: "mounted at
// /data (ext4)" and the like; empty when nobody is known. What was read of a
// volume in use is a mixture of moments, unless its file system is frozen.
func (s *Source) Writer() string {
	k := theKernel
	k.writers = true
	st, err := s.buffered.Stat()
	if err != nil {
		return ""
	}
	if d, ok := deviceOf(st); ok {
		return k.userOfDevice(d)
	}
	return k.userOfFile(st)
}

// partitions are the directories of the device's directory that hold a file "partition".
func (k kernelView) partitions(d deviceNumber) []deviceNumber {
	files, err := filepath.Glob(filepath.Join(k.sys, "dev/block", d.String(), "*/partition"))
	if err != nil {
		return nil
	}
	var out []deviceNumber
	for _, file := range files {
		if n, ok := readDeviceNumber(filepath.Join(filepath.Dir(file), "dev")); ok {
			out = append(out, n)
		}
	}
	return out
}

func readDeviceNumber(file string) (deviceNumber, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return deviceNumber{}, false
	}
	major, minor, ok := strings.Cut(strings.TrimSpace(string(text)), ":")
	if !ok {
		return deviceNumber{}, false
	}
	a, errA := strconv.ParseUint(major, 10, 32)
	b, errB := strconv.ParseUint(minor, 10, 32)
	return deviceNumber{uint32(a), uint32(b)}, errA == nil && errB == nil
}

// mounted looks for the device's number, and for its node as source: btrfs shows a number of its own.
func (k kernelView) mounted(d deviceNumber) string {
	mounts, err := mount.ParseMountInfo(k.mountinfo)
	if err != nil {
		return ""
	}
	for _, m := range mounts {
		match := m.Major == int(d.major) && m.Minor == int(d.minor)
		if !match && m.Major == 0 && strings.HasPrefix(m.Source, "/") {
			n, ok := deviceAt(unescape(m.Source))
			match = ok && n == d
		}
		if match && k.writers && (slices.Contains(m.MountOptions, "ro") || slices.Contains(m.SuperOptions, "ro")) {
			continue
		}
		if match {
			return fmt.Sprintf("mounted at %s (%s)", unescape(m.MountPoint), m.FsType)
		}
	}
	return ""
}

func (k kernelView) swapping(match func(path string) bool) string {
	f, err := os.Open(k.swaps)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 0 && strings.HasPrefix(fields[0], "/") && match(unescape(fields[0])) {
			return "in use as swap"
		}
	}
	return ""
}

// held names the devices built on this one: device mapper, RAID, bcache.
func (k kernelView) held(d deviceNumber) string {
	entries, err := os.ReadDir(filepath.Join(k.sys, "dev/block", d.String(), "holders"))
	if err != nil || len(entries) == 0 {
		return ""
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return "held by " + strings.Join(names, ", ")
}

// loopUser looks for a loop device over what matches that is itself in use.
func (k kernelView) loopUser(match func(path string) bool, depth int) string {
	if depth == 0 {
		return ""
	}
	files, err := filepath.Glob(filepath.Join(k.sys, "block/loop*/loop/backing_file"))
	if err != nil {
		return ""
	}
	for _, file := range files {
		path, err := os.ReadFile(file)
		if err != nil || !match(strings.TrimSuffix(string(path), "\n")) {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		n, ok := readDeviceNumber(filepath.Join(dir, "dev"))
		if !ok {
			continue
		}
		if by := k.deviceUser(n, depth-1); by != "" {
			return fmt.Sprintf("it is under /dev/%s, which is %s", filepath.Base(dir), by)
		}
	}
	return ""
}

// unescape undoes the octal escapes of /proc: \040 is a space.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
