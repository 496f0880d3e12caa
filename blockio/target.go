// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Target is a volume opened for writing. It is safe for concurrent use, also for writes next to each other;
// Sync makes everything written before it durable; Close must come last and makes nothing durable.
type Target struct {
	path    string
	size    int64
	device  bool
	created bool
	fresh   bool
	f       *os.File
	flush   *flusher
	zero    zeroing
	written atomic.Int64
}

// TargetOptions change what OpenTarget allows.
type TargetOptions struct {
	// Force opens what is mounted or in use too, and keeps others from nothing.
	Force bool
}

// Path is the path that was opened.
func (t *Target) Path() string { return t.path }

// Size is the size of the volume; a device may be larger, and what lies behind is never touched.
func (t *Target) Size() int64 { return t.size }

// IsDevice tells a block device from a regular file.
func (t *Target) IsDevice() bool { return t.device }

// Fresh reports whether the target was created, or found empty, at open: all of it reads as zeros until it is
// written. A device is never fresh.
func (t *Target) Fresh() bool { return t.fresh }

// BytesWritten counts the bytes that WriteAt handed to the kernel.
func (t *Target) BytesWritten() int64 { return t.written.Load() }

// WriteAt writes p at off. It is not durable before Sync. After a failed write-back every call fails (I5).
func (t *Target) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := t.check(ctx, "write", off, int64(len(p))); err != nil {
		return err
	}
	n, err := t.write(p, off)
	t.written.Add(int64(n))
	return err
}

func (t *Target) write(p []byte, off int64) (int, error) {
	n, err := t.f.WriteAt(p, off)
	if err != nil {
		return n, fmt.Errorf("write %s at %d: %w", t.path, off+int64(n), pathless(err))
	}
	return n, t.flush.wrote(off, int64(n))
}

// ReadAt fills p with what the target holds at off.
func (t *Target) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := t.check(ctx, "read", off, int64(len(p))); err != nil {
		return err
	}
	n, err := t.f.ReadAt(p, off)
	dropCached(t.f, off, int64(len(p)))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read %s at %d: %w", t.path, off+int64(n), pathless(err))
	}
	return nil
}

func (t *Target) check(ctx context.Context, verb string, off, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if off < 0 || n < 0 || n > t.size-off {
		return fmt.Errorf("%s %s: %d bytes at %d of %d: %w", verb, t.path, n, off, t.size, ErrOutOfRange)
	}
	return t.flush.failed()
}

// Sync makes everything that was written durable, the name of a created file included, and leaves nothing of
// it in the page cache.
func (t *Target) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.flush.sync(); err != nil {
		return err
	}
	if !t.created {
		return nil
	}
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return fmt.Errorf("sync the directory of %s: %w", t.path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", t.path, err)
	}
	return nil
}

// Close closes the target and returns a write-back failure that nobody has seen yet, or has.
func (t *Target) Close() error {
	return errors.Join(t.flush.failed(), t.f.Close())
}
