// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control runs fn on the file's descriptor while the file can't be closed under it.
func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// checkKind allows block devices and regular files.
func checkKind(path string, mode fs.FileMode) (device bool, err error) {
	switch {
	case mode.IsRegular():
		return false, nil
	case mode.IsDir():
		return false, &KindError{path, "a directory"}
	case mode&fs.ModeCharDevice != 0:
		return false, &KindError{path, "a character device"}
	case mode&fs.ModeDevice != 0:
		return true, nil
	case mode&fs.ModeNamedPipe != 0:
		return false, &KindError{path, "a pipe"}
	case mode&fs.ModeSocket != 0:
		return false, &KindError{path, "a socket"}
	default:
		return false, &KindError{path, "of an unknown kind"}
	}
}

// sizeOf is the present size of an open volume.
func sizeOf(f *os.File, device bool) (int64, error) {
	if !device {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	var size uint64
	err := control(f, func(fd int) error { return ioctlPtr(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)) })
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	if size > 1<<63-1 {
		return 0, fmt.Errorf("size of %s: %d bytes is more than can be addressed", f.Name(), size)
	}
	return int64(size), nil
}

func ioctlPtr(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// alignment is what a direct read must keep to, each a power of two.
type alignment struct {
	offset int64 // of offset and length
	memory int64 // of the buffer's address
	// silent is set for a file system that does not say when it can't read directly: btrfs takes O_DIRECT for
	// a compressed file and leaves all of it in the page cache.
	silent bool
}

// directAlignment asks statx, which knows about file systems too, then the device for its logical block.
// ok is false when the kernel says that the file can't be read directly at all (it would accept O_DIRECT and
// go through the page cache nevertheless).
func directAlignment(f *os.File, device bool) (a alignment, ok bool) {
	// A page is right everywhere but on blocks larger than that.
	a = alignment{offset: PageSize, memory: PageSize, silent: !device}
	var stx unix.Statx_t
	err := control(f, func(fd int) error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &stx)
	})
	if err == nil && stx.Mask&unix.STATX_DIOALIGN != 0 {
		if stx.Dio_mem_align == 0 || stx.Dio_offset_align == 0 {
			return a, false
		}
		a = alignment{offset: int64(stx.Dio_offset_align), memory: int64(stx.Dio_mem_align)}
		if stx.Dio_read_offset_align != 0 {
			a.offset = int64(stx.Dio_read_offset_align)
		}
	} else if device {
		if block, err := logicalBlock(f); err == nil {
			a = alignment{offset: block, memory: max(block, 512)}
		}
	}
	valid := a.offset > 0 && a.offset&(a.offset-1) == 0 && a.memory&(a.memory-1) == 0
	return a, valid
}

func logicalBlock(f *os.File) (int64, error) {
	var size uint32
	err := control(f, func(fd int) error { return ioctlPtr(fd, unix.BLKSSZGET, unsafe.Pointer(&size)) })
	if err != nil {
		return 0, fmt.Errorf("logical block size of %s: %w", f.Name(), err)
	}
	return int64(size), nil
}

// readOnly asks the device, for the kernel opens a read-only one for writing without a word.
func readOnly(f *os.File) bool {
	var flag uint32
	err := control(f, func(fd int) error { return ioctlPtr(fd, unix.BLKROGET, unsafe.Pointer(&flag)) })
	return err == nil && flag != 0
}

func roundDown(n, unit int64) int64 { return n &^ (unit - 1) }
func roundUp(n, unit int64) int64   { return (n + unit - 1) &^ (unit - 1) }

// aligned tells whether p's memory may take part in a direct read.
func (a alignment) aligned(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&uintptr(a.memory-1) == 0
}

// mediumError tells whether err says that these very bytes can't be read, so that others may be. Timeouts and
// lost links say nothing about bytes and are not narrowed.
func mediumError(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.ENODATA, unix.EILSEQ, unix.EREMOTEIO, unix.EBADMSG, unix.EUCLEAN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
