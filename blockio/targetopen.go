// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTarget opens a block device of at least size bytes, or a regular file, for writing a volume of size
// bytes. A file that is missing is created (mode 0600); one that exists keeps its content and its inode and is
// cut or extended to size. Nothing is changed when an error is returned.
// Errors: *KindError, *TooSmallError, *InUseError (never with Force), or what the kernel said.
func OpenTarget(path string, size int64, opt TargetOptions) (*Target, error) {
	t, err := openTarget(path, size, opt)
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	expectScatter(t.f)
	return t, nil
}

func openTarget(path string, size int64, opt TargetOptions) (*Target, error) {
	if size < 0 {
		return nil, fmt.Errorf("%s: a volume can't have %d bytes", path, size)
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createFile(path, size)
	}
	if err != nil {
		return nil, err
	}
	device, err := checkKind(path, st.Mode())
	if err != nil {
		return nil, err
	}
	if device {
		return openDevice(path, st, size, opt)
	}
	return openFile(path, st, size, opt)
}

func createFile(path string, size int64) (*Target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is a link to nowhere, or somebody else just created it", path)
	}
	if err != nil {
		return nil, err
	}
	t := newTarget(f, path, size)
	t.created, t.fresh = true, true
	if err := t.claimFile(); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return t, nil
}

func openFile(path string, seen os.FileInfo, size int64, opt TargetOptions) (*Target, error) {
	if by := theKernel.userOfFile(seen); by != "" && !opt.Force {
		return nil, &InUseError{path, by}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	t := newTarget(f, path, size)
	if err := t.adoptFile(seen, opt); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// adoptFile checks that the open file is the one that was looked at, and gives it the volume's size.
func (t *Target) adoptFile(seen os.FileInfo, opt TargetOptions) error {
	if !opt.Force {
		if err := t.claimFile(); err != nil {
			return err
		}
	}
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(st, seen) {
		return fmt.Errorf("%s was replaced while it was opened", t.path)
	}
	t.fresh = st.Size() == 0
	if st.Size() == t.size {
		return nil
	}
	return t.f.Truncate(t.size)
}

// claimFile keeps a second writer of ours away from the file; the lock ends with the descriptor. File systems
// without locks can't do that, and are used nevertheless.
func (t *Target) claimFile() error {
	err := control(t.f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &InUseError{t.path, "another process has locked it"}
	}
	return nil
}

func openDevice(path string, seen os.FileInfo, size int64, opt TargetOptions) (*Target, error) {
	number, ok := deviceOf(seen)
	if !ok {
		return nil, fmt.Errorf("%s has no device number", path)
	}
	flag := os.O_RDWR
	if !opt.Force {
		if by := theKernel.userOfDevice(number); by != "" {
			return nil, &InUseError{path, by}
		}
		flag |= unix.O_EXCL // without O_CREAT: the kernel's own claim on a block device
	}
	f, err := os.OpenFile(path, flag, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, &InUseError{path, "the kernel, or another process, holds it exclusively"}
	case err != nil:
		return nil, err
	}
	t := newTarget(f, path, size)
	t.device = true
	if err := t.adoptDevice(seen); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

func (t *Target) adoptDevice(seen os.FileInfo) error {
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(st, seen) {
		return fmt.Errorf("%s was replaced while it was opened", t.path)
	}
	if readOnly(t.f) {
		return fmt.Errorf("%s is a read-only device: %w", t.path, unix.EROFS)
	}
	have, err := sizeOf(t.f, true)
	if err != nil {
		return err
	}
	if have < t.size {
		return &TooSmallError{Path: t.path, Need: t.size, Have: have}
	}
	block, err := logicalBlock(t.f)
	if err != nil {
		return err
	}
	t.zero = deviceZeroing(block)
	return nil
}

func newTarget(f *os.File, path string, size int64) *Target {
	return &Target{path: path, size: size, f: f, flush: newFlusher(f, path), zero: fileZeroing()}
}

// pathless takes the path out of an error whose sentence names it already.
func pathless(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
